//! Populations of answers to one input whose diversity is known by construction, and samples of
//! them.
//!
//! 1. A population is a finite distribution over texts: content classes with probabilities, in each
//!    some texts, all as likely. Number, entropy and Simpson's index of the classes of the right
//!    answers, entropy of the wording within a class and share of wrong answers follow.
//! 2. The base has the middle number of classes, the middle number of texts a class, no wrong
//!    answer, and texts of one number of words. Every other population differs from it in one
//!    thing ([`Axis`]), with the same classes and texts otherwise: fewer classes are the first of
//!    more, fewer texts the first of more.
//! 3. All classes are drawn from those with enough texts of three numbers of words: that of most
//!    populations, and those of the shorter and the longer ones. So populations of more classes
//!    differ from those of fewer in nothing else on average. Of all three numbers with enough such
//!    classes, the longest and the shortest are those farthest apart, and the other is nearest to
//!    their middle.
//! 4. Classes, texts and wrong answers are drawn with the random numbers of the input.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::config::MetricValidationStage;
use crate::random::Sequence;
use crate::world::answers::{Content, RightAnswers};

/// Draws of a wrong answer until an input counts as one that has too few.
const ATTEMPTS: usize = 1_000;

/// What a population differs from the base in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Axis {
    /// The number of content classes and their distribution; the base is one of these.
    Content,
    /// The number of texts of each class.
    Wording,
    /// The share of wrong answers.
    Wrong,
    /// The number of words, of the same classes.
    Length,
    /// The number of facts that the classes state.
    Facts,
}

/// What is true of a population.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Truth {
    /// Content classes of right answers.
    pub(super) classes: f64,
    /// Entropy of the classes of right answers, in nats.
    pub(super) class_entropy: f64,
    /// Chance that two right answers are of two classes.
    pub(super) simpson: f64,
    /// Entropy of the text of a right answer given its class, in nats.
    pub(super) wording_entropy: f64,
    /// Share of wrong answers.
    pub(super) wrong: f64,
    /// Mean number of words, of wrong answers too.
    pub(super) words: f64,
}

/// Answers of one content, all as likely.
#[derive(Clone, Debug)]
struct Cell {
    probability: f64,
    /// The class of right answers.
    class: Option<usize>,
    texts: Vec<String>,
}

/// A distribution over answers to one input.
#[derive(Clone, Debug)]
pub(super) struct Population {
    pub(super) name: String,
    pub(super) axis: Axis,
    cells: Vec<Cell>,
}

impl Population {
    /// What is true of it.
    pub(super) fn truth(&self) -> Truth {
        let right = || self.cells.iter().filter(|cell| cell.class.is_some());
        let of_right: f64 = right().map(|cell| cell.probability).sum();
        let wrong = self.cells.iter().filter(|cell| cell.class.is_none());
        let share = |cell: &Cell| cell.probability / of_right;
        let words = |cell: &Cell| {
            let words: usize = cell.texts.iter().map(|text| text.split_whitespace().count()).sum();
            cell.probability * words as f64 / cell.texts.len() as f64
        };
        Truth {
            classes: right().count() as f64,
            class_entropy: right()
                .map(|cell| -share(cell) * share(cell).ln())
                .sum::<f64>()
                .max(0.0),
            simpson: 1.0 - right().map(|cell| share(cell).powi(2)).sum::<f64>(),
            wording_entropy: right().map(|cell| share(cell) * (cell.texts.len() as f64).ln()).sum(),
            wrong: wrong.map(|cell| cell.probability).sum(),
            words: self.cells.iter().map(words).sum(),
        }
    }

    /// One answer, and its class if it is right.
    pub(super) fn draw(&self, random: &mut Sequence) -> (&str, Option<usize>) {
        let mut at = random.uniform();
        let (last, others) = self.cells.split_last().expect("a population has answers");
        let passed = |cell: &&Cell| {
            let below = at < cell.probability;
            at -= if below { 0.0 } else { cell.probability };
            below
        };
        let cell = others.iter().find(passed).unwrap_or(last);
        (random.choose::<String>(&cell.texts), cell.class)
    }
}

/// What populations are made of: the numbers of the config.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid<'a> {
    classes: &'a [usize],
    wordings: &'a [usize],
    wrong: &'a [f64],
}

/// Numbers of words: of most populations, of the shorter and of the longer ones; and the classes
/// that have enough texts of each.
struct Lengths {
    base: usize,
    short: usize,
    long: usize,
    stable: Vec<usize>,
}

impl Lengths {
    /// How far apart the longer and the shorter texts are, then how near to their middle the
    /// others are.
    fn merit(&self) -> (usize, Reverse<usize>) {
        (self.long - self.short, Reverse((2 * self.base).abs_diff(self.short + self.long)))
    }
}

/// The names of the populations that responses are differences of.
pub(super) struct Ends {
    /// Each with a pair of names: the greater value of the axis first. Of an axis with two pairs
    /// the response is the mean.
    pub(super) pairs: Vec<(Axis, [String; 2])>,
}

fn middle<T: Copy>(list: &[T]) -> T {
    list[list.len() / 2]
}

fn most<T: Copy>(list: &[T]) -> T {
    list[list.len() - 1]
}

impl<'a> Grid<'a> {
    /// That of a config.
    pub(super) fn new(config: &'a MetricValidationStage) -> Self {
        Grid { classes: &config.classes, wordings: &config.wordings, wrong: &config.wrong }
    }

    /// The ends of each axis.
    pub(super) fn ends(&self) -> Ends {
        let base = self.base();
        let wrong = most(self.wrong);
        let pair = |axis, high: String, low: String| (axis, [high, low]);
        let (few, many) = (self.classes[0], most(self.classes));
        Ends {
            pairs: vec![
                pair(Axis::Content, uniform(many), uniform(few)),
                pair(
                    Axis::Wording,
                    self.worded(most(self.wordings)),
                    self.worded(self.wordings[0]),
                ),
                pair(Axis::Wrong, format!("invented_{wrong}"), base.clone()),
                pair(Axis::Wrong, format!("repeated_{wrong}"), base),
                pair(Axis::Length, "long".into(), "short".into()),
                pair(Axis::Facts, "many_facts".into(), "few_facts".into()),
            ],
        }
    }

    /// The name of the base.
    fn base(&self) -> String {
        uniform(middle(self.classes))
    }

    /// The name of the population with this many texts a class.
    fn worded(&self, texts: usize) -> String {
        if texts == middle(self.wordings) { self.base() } else { format!("wordings_{texts}") }
    }

    /// The populations of an input, the same names in the same order for every input; `None` if it
    /// has too few right answers, or too few wrong ones of the same length.
    pub(super) fn populations(
        &self,
        answers: &RightAnswers,
        random: &mut Sequence,
    ) -> Option<Vec<Population>> {
        let contents = answers.contents();
        let (own, texts) = (middle(self.classes), middle(self.wordings));
        let lengths = self.lengths(contents)?;
        let mut classes = lengths.stable.clone();
        random.shuffle(&mut classes);
        classes.truncate(most(self.classes));
        // The classes of the base have as many texts as any population takes of them.
        let written: Vec<(usize, Vec<String>)> = classes
            .iter()
            .enumerate()
            .map(|(at, class)| {
                let n = if at < own { most(self.wordings) } else { texts };
                Some((*class, contents[*class].sample(lengths.base, n, random)?))
            })
            .collect::<Option<_>>()?;
        let first = |n: usize, texts: usize| -> Vec<(usize, Vec<String>)> {
            written[..n].iter().map(|(class, own)| (*class, own[..texts].to_vec())).collect()
        };
        let mut found = Vec::new();
        for n in self.classes {
            found.push(right(uniform(*n), Axis::Content, first(*n, texts), |_| 1.0));
        }
        for n in self.classes.iter().filter(|n| **n > 1) {
            let by_rank = |at: usize| 1.0 / (at + 1) as f64;
            found.push(right(format!("zipf_{n}"), Axis::Content, first(*n, texts), by_rank));
        }
        for n in self.wordings.iter().filter(|n| **n != texts) {
            found.push(right(self.worded(*n), Axis::Wording, first(own, *n), |_| 1.0));
        }
        for (name, words) in [("short", lengths.short), ("long", lengths.long)] {
            let of_base = classes[..own].iter();
            let cells =
                of_base.map(|class| Some((*class, contents[*class].sample(words, texts, random)?)));
            let cells = cells.collect::<Option<Vec<_>>>()?;
            found.push(right(name.into(), Axis::Length, cells, |_| 1.0));
        }
        for (name, chosen) in self.by_facts(contents, random)? {
            let cells = chosen
                .iter()
                .map(|class| Some((*class, contents[*class].sample_any(texts, random)?)));
            let cells = cells.collect::<Option<Vec<_>>>()?;
            found.push(right(name.into(), Axis::Facts, cells, |_| 1.0));
        }
        type Maker = fn(&RightAnswers, usize, &mut Sequence) -> Content;
        let makers: [(&str, Maker); 2] =
            [("invented", RightAnswers::invented), ("repeated", RightAnswers::repeated)];
        for (name, make) in makers {
            let make =
                |random: &mut Sequence| make(answers, *random.choose(&lengths.stable), random);
            let wrong = self.wrong_texts(lengths.base, make, random)?;
            for share in self.wrong {
                let mut cells = right(String::new(), Axis::Wrong, first(own, texts), |_| 1.0).cells;
                cells.iter_mut().for_each(|cell| cell.probability *= 1.0 - share);
                let probability = share / wrong.len() as f64;
                let cell =
                    |texts: &Vec<String>| Cell { probability, class: None, texts: texts.clone() };
                cells.extend(wrong.iter().map(cell));
                let name = format!("{name}_{share}");
                found.push(Population { name, axis: Axis::Wrong, cells });
            }
        }
        Some(found)
    }

    /// The numbers of words of the populations; `None` if there are none with enough classes.
    fn lengths(&self, contents: &[Content]) -> Option<Lengths> {
        let counts: Vec<BTreeMap<usize, u64>> =
            contents.iter().map(Content::texts_by_words).collect();
        let all: BTreeSet<usize> = counts.iter().flat_map(|count| count.keys().copied()).collect();
        // Which classes have n texts, for each number of words.
        let having = |n: usize| -> BTreeMap<usize, Vec<bool>> {
            let has = |words: usize| {
                let enough = |count: &BTreeMap<usize, u64>| {
                    count.get(&words).is_some_and(|count| *count >= n as u64)
                };
                counts.iter().map(enough).collect()
            };
            all.iter().map(|words| (*words, has(*words))).collect()
        };
        let (few, many) = (having(middle(self.wordings)), having(most(self.wordings)));
        let mut best: Option<Lengths> = None;
        for base in &all {
            for short in all.range(..base) {
                for long in all.range(base + 1..) {
                    // The first of those as good: the fewest words.
                    let lengths =
                        |stable| Lengths { base: *base, short: *short, long: *long, stable };
                    let found = lengths(Vec::new()).merit();
                    if best.as_ref().is_some_and(|best| best.merit() >= found) {
                        continue;
                    }
                    let fits = |at: &usize| many[base][*at] && few[short][*at] && few[long][*at];
                    let stable: Vec<usize> = (0..contents.len()).filter(fits).collect();
                    if stable.len() >= most(self.classes) {
                        best = Some(lengths(stable));
                    }
                }
            }
        }
        best
    }

    /// The classes that state the fewest and the most facts, of those with enough texts.
    fn by_facts(
        &self,
        contents: &[Content],
        random: &mut Sequence,
    ) -> Option<[(&'static str, Vec<usize>); 2]> {
        let (own, texts) = (middle(self.classes), middle(self.wordings));
        let mut all: Vec<usize> =
            (0..contents.len()).filter(|at| contents[*at].texts() >= texts as u64).collect();
        random.shuffle(&mut all);
        all.sort_by_key(|class| contents[*class].facts());
        (all.len() >= own).then(|| {
            [("few_facts", all[..own].to_vec()), ("many_facts", all[all.len() - own..].to_vec())]
        })
    }

    /// Texts of this many words of as many different wrong contents as the base has classes.
    fn wrong_texts(
        &self,
        words: usize,
        mut make: impl FnMut(&mut Sequence) -> Content,
        random: &mut Sequence,
    ) -> Option<Vec<Vec<String>>> {
        let mut found: Vec<(String, Vec<String>)> = Vec::new();
        for _ in 0..ATTEMPTS {
            let content = make(random);
            let is_new = found.iter().all(|(statement, _)| statement != content.statement());
            if let Some(texts) =
                content.sample(words, middle(self.wordings), random).filter(|_| is_new)
            {
                found.push((content.statement().to_owned(), texts));
            }
            if found.len() == middle(self.classes) {
                return Some(found.into_iter().map(|(_, texts)| texts).collect());
            }
        }
        None
    }
}

/// The name of a population of this many classes, all as likely.
fn uniform(classes: usize) -> String {
    format!("classes_{classes}")
}

/// A population of right answers: each class with its texts, weighted by its place.
fn right(
    name: String,
    axis: Axis,
    classes: Vec<(usize, Vec<String>)>,
    weight: impl Fn(usize) -> f64,
) -> Population {
    let total: f64 = (0..classes.len()).map(&weight).sum();
    let cell = |(at, (class, texts)): (usize, (usize, Vec<String>))| Cell {
        probability: weight(at) / total,
        class: Some(class),
        texts,
    };
    Population { name, axis, cells: classes.into_iter().enumerate().map(cell).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rows::Example;
    use crate::random::Stream;
    use crate::world::instructions::Instructions;
    use crate::world::posts::World;

    const GRID: Grid<'static> =
        Grid { classes: &[1, 2, 4, 8, 16], wordings: &[1, 4, 16], wrong: &[0.25, 0.5] };

    /// The populations of some inputs of both worlds.
    fn all() -> Vec<(Example, RightAnswers, Vec<Population>)> {
        let examples = World::new(5).test("id", 4).into_iter();
        let examples = examples.chain(Instructions::new(5).test("id", 60));
        let stream = Stream::new(5, "tests");
        let found = examples.enumerate().filter_map(|(row, example)| {
            let answers = RightAnswers::of(&example).unwrap();
            let populations = GRID.populations(&answers, &mut stream.sequence(row as u64))?;
            Some((example, answers, populations))
        });
        found.collect()
    }

    /// Entropies and indices worked out by hand; what no axis varies is as in the base.
    #[test]
    fn each_population_differs_from_the_base_in_one_thing() {
        let all = all();
        assert!(all.len() >= 8, "{}", all.len());
        for (_, _, populations) in &all {
            let truth =
                |name: &str| populations.iter().find(|one| one.name == name).unwrap().truth();
            let base = truth("classes_4");
            let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-12, "{a} for {b}");
            close(base.class_entropy, 4f64.ln());
            close(base.simpson, 0.75);
            close(base.wording_entropy, 4f64.ln());
            assert_eq!((base.classes, base.wrong), (4.0, 0.0));
            let zipf = truth("zipf_2");
            close(zipf.class_entropy, 3f64.ln() - 2.0 / 3.0 * 2f64.ln());
            close(zipf.simpson, 4.0 / 9.0);
            for one in populations {
                let found = one.truth();
                let content = (found.classes, found.class_entropy, found.simpson);
                if one.axis != Axis::Content {
                    assert_eq!(found.classes, 4.0, "{}", one.name);
                    close(content.1, base.class_entropy);
                    close(content.2, base.simpson);
                }
                if one.axis != Axis::Wording {
                    close(found.wording_entropy, base.wording_entropy);
                }
                assert_eq!(found.wrong > 0.0, one.axis == Axis::Wrong, "{}", one.name);
                if !matches!(one.axis, Axis::Length | Axis::Facts) {
                    close(found.words, base.words);
                }
            }
            close(truth("wordings_16").wording_entropy, 16f64.ln());
            assert_eq!(truth("wordings_1").wording_entropy, 0.0);
            assert_eq!((truth("invented_0.25").wrong, truth("repeated_0.5").wrong), (0.25, 0.5));
            assert!(truth("short").words < base.words && base.words < truth("long").words);
            assert!(truth("few_facts").words < truth("many_facts").words);
            let names: BTreeSet<&String> = populations.iter().map(|one| &one.name).collect();
            assert_eq!(names.len(), populations.len());
            for (_, pair) in GRID.ends().pairs {
                assert!(pair.iter().all(|name| names.contains(name)), "{pair:?}");
            }
        }
    }

    /// The gold reader says of every text what the cell says, and no text is in two cells.
    #[test]
    fn texts_are_what_their_cells_say() {
        for (example, answers, populations) in all() {
            for population in populations {
                let mut seen = BTreeSet::new();
                for cell in &population.cells {
                    for text in &cell.texts {
                        assert_eq!(answers.class_of(text, true), cell.class, "{text}");
                        assert!(seen.insert(text), "{text} twice for {}", example.prompt);
                    }
                }
                let sum: f64 = population.cells.iter().map(|cell| cell.probability).sum();
                assert!((sum - 1.0).abs() < 1e-12);
            }
        }
    }

    /// Shares of classes in 40,000 draws, within five standard errors.
    #[test]
    fn draws_have_the_probabilities_of_the_cells() {
        let (_, _, populations) = &all()[0];
        let draws = 40_000;
        for name in ["zipf_4", "invented_0.5"] {
            let population = populations.iter().find(|one| one.name == name).unwrap();
            let mut random = Stream::new(1, name).sequence(0);
            let mut counts: BTreeMap<Option<usize>, usize> = BTreeMap::new();
            for _ in 0..draws {
                *counts.entry(population.draw(&mut random).1).or_default() += 1;
            }
            let mut expected: BTreeMap<Option<usize>, f64> = BTreeMap::new();
            for cell in &population.cells {
                *expected.entry(cell.class).or_default() += cell.probability;
            }
            assert_eq!(counts.len(), expected.len());
            for (class, p) in expected {
                let error = (p * (1.0 - p) / draws as f64).sqrt();
                let found = counts[&class] as f64 / draws as f64;
                assert!((found - p).abs() < 5.0 * error, "{name} {class:?}: {found} for {p}");
            }
        }
    }

    #[test]
    fn an_input_with_too_few_right_answers_has_none() {
        let post = &World::new(5).test("id", 1)[0];
        let answers = RightAnswers::of(post).unwrap();
        let mut random = Stream::new(1, "few").sequence(0);
        for grid in
            [Grid { classes: &[1, 4, 32], ..GRID }, Grid { wordings: &[1, 4, usize::MAX], ..GRID }]
        {
            assert!(grid.populations(&answers, &mut random).is_none());
        }
    }
}
