//! What a program of a stage `metric` prints, read strictly: a line of JSON for each row, with
//! every number by its name. Knows no file.

use std::collections::BTreeMap;

use crate::artefacts::metric::{Per, SHARE, Valued};
use crate::data::samples::Sampled;
use crate::error::{Failure, Result, user};
use crate::json::{self, Json};

/// The fields of a line.
const FIELDS: [&str; 3] = ["split", "id", "values"];

/// What a program is to print.
pub(super) struct Expected<'a> {
    /// What errors call it.
    pub(super) program: &'a str,
    /// What it gives a number of.
    pub(super) per: Per,
    /// The names of the numbers.
    pub(super) names: Vec<&'a str>,
}

/// The numbers of one line: by name that of the input, and those of its samples where there is one
/// for each.
type Numbers = (BTreeMap<String, Option<f64>>, BTreeMap<String, Vec<Option<f64>>>);

impl Expected<'_> {
    /// The numbers of each row, in the order of the rows.
    ///
    /// # Errors
    /// The user's, with the line and, where it is known, the row: a line that is no JSON, an
    /// unknown row or field, a row or name given twice or missing, what is no finite number, a
    /// share outside of 0 to 1, another count of numbers than of samples.
    pub(super) fn read(&self, printed: &[u8], rows: &[Sampled]) -> Result<Vec<Valued>> {
        let mut places: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for (at, row) in rows.iter().enumerate() {
            places.insert((&row.split, &row.id), at);
        }
        // The line of each row with its numbers.
        let mut found: Vec<Option<(usize, Numbers)>> = vec![None; rows.len()];
        let printed = printed.strip_suffix(b"\n").unwrap_or(printed);
        let lines = printed.split(|byte| *byte == b'\n').filter(|_| !printed.is_empty());
        for (at, line) in lines.enumerate() {
            let number = at + 1;
            let fields = self.fields(line).map_err(|error| self.at(number, None, error))?;
            let [split, id, values] = &fields;
            let (split, id) = match (split.as_str(), id.as_str()) {
                (Some(split), Some(id)) => (split, id),
                (split, _) => {
                    let (field, value) = match split {
                        None => ("split", &fields[0]),
                        Some(_) => ("id", &fields[1]),
                    };
                    let message = format!(
                        "`{field}` is {}, expected the text that the program was given",
                        value.what()
                    );
                    return Err(self.at(number, None, user(message)).into());
                }
            };
            let Some(&place) = places.get(&(split, id)) else {
                let message = format!(
                    "the samples have no row `{id}` in split `{split}`, expected the `split` and \
                     the `id` of a line that the program was given"
                );
                return Err(self.at(number, None, user(message)).into());
            };
            let row = &rows[place];
            if let Some((first, _)) = &found[place] {
                let message = format!("line {first} has this row already, expected one line a row");
                return Err(self.at(number, Some(row), user(message)).into());
            }
            let numbers = self
                .numbers(values, row.outputs.len())
                .map_err(|error| self.at(number, Some(row), error))?;
            found[place] = Some((number, numbers));
        }
        let missing = found.iter().filter(|found| found.is_none()).count();
        if let Some(at) = found.iter().position(Option::is_none) {
            let message = format!(
                "`{}` printed no line for {missing} of {} rows, the first of which is row `{}` of \
                 split `{}`",
                self.program,
                rows.len(),
                rows[at].id,
                rows[at].split
            );
            return Err(user(message).hint(self.hint()).into());
        }
        let valued = |(row, found): (&Sampled, Option<(usize, Numbers)>)| {
            let (_, (values, each)) = found?;
            let (split, id) = (row.split.clone(), row.id.clone());
            Some(Valued { split, id, samples: row.outputs.len(), values, each })
        };
        Ok(rows.iter().zip(found).filter_map(valued).collect())
    }

    /// An error with its line and row.
    fn at(&self, number: usize, row: Option<&Sampled>, error: Failure) -> Failure {
        let of = row.map_or_else(String::new, |row| {
            format!(" (row `{}` of split `{}`)", row.id, row.split)
        });
        let message =
            format!("line {number} that `{}` printed{of}: {}", self.program, error.message);
        let hint = error.hint.unwrap_or_else(|| self.hint());
        Failure { hint: Some(hint), message, ..error }
    }

    /// What a line looks like.
    fn hint(&self) -> String {
        let value = match self.per {
            Per::Input => "NUMBER",
            Per::Sample => "[NUMBER, …]",
        };
        let values: Vec<String> =
            self.names.iter().map(|name| format!("\"{name}\": {value}")).collect();
        format!(
            "expected a line {{\"split\": …, \"id\": …, \"values\": {{{}}}}} for each line that \
             the program was given; null where there is no number",
            values.join(", ")
        )
    }

    /// The fields of a line, in the order of [`FIELDS`].
    fn fields(&self, line: &[u8]) -> Result<[Json; 3], Failure> {
        let text = std::str::from_utf8(line).map_err(|_| user("it is not UTF-8"))?;
        let read = json::parse(text).map_err(|error| {
            let message = error.to_string();
            let why = message.split(" at line ").next().unwrap_or_default();
            user(format!("it is no JSON: {why}; found `{}`", shortened(text)))
        })?;
        let Json::Object(fields) = &read else {
            return Err(user(format!("it is {}, expected an object", read.what())));
        };
        if let Some(other) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
            let known = FIELDS.join("`, `");
            return Err(user(format!("it has a field `{other}`, expected `{known}` alone")));
        }
        let field = |name: &str| {
            fields.get(name).cloned().ok_or_else(|| user(format!("it has no field `{name}`")))
        };
        Ok([field(FIELDS[0])?, field(FIELDS[1])?, field(FIELDS[2])?])
    }

    /// The numbers of a row with this number of samples.
    fn numbers(&self, values: &Json, samples: usize) -> Result<Numbers, Failure> {
        let Json::Object(fields) = values else {
            return Err(user(format!("`values` is {}, expected an object", values.what())));
        };
        if let Some(other) = fields.keys().find(|name| !self.names.contains(&name.as_str())) {
            let message = format!(
                "`values` has `{other}`, expected the names under `values` of the stage: {}",
                self.names.join(", ")
            );
            return Err(user(message));
        }
        let (mut of_input, mut each) = Numbers::default();
        for name in &self.names {
            let Some(value) = fields.get(*name) else {
                return Err(user(format!("`values` has no `{name}`")));
            };
            let number = match self.per {
                Per::Input => number(name, value)?,
                Per::Sample => {
                    let all = of_samples(name, value, samples)?;
                    let mean = mean(&all);
                    each.insert((*name).to_owned(), all);
                    mean
                }
            };
            of_input.insert((*name).to_owned(), number);
        }
        Ok((of_input, each))
    }
}

/// A number; `None` of `null`.
fn number(name: &str, value: &Json) -> Result<Option<f64>, Failure> {
    let number = match value {
        Json::Null => return Ok(None),
        other => other.as_f64().filter(|number| number.is_finite()),
    };
    let Some(number) = number else {
        let found = match value {
            Json::Number(digits) => format!("{digits}, which is beyond double precision"),
            other => other.what().to_owned(),
        };
        return Err(user(format!("`{name}` is {found}, expected a finite number or null")));
    };
    match name.starts_with(SHARE) && !(0.0..=1.0).contains(&number) {
        true => Err(user(format!(
            "`{name}` is {number}, expected from 0 to 1, as its name begins with `{SHARE}`"
        ))),
        false => Ok(Some(number)),
    }
}

/// A number for each sample.
fn of_samples(name: &str, value: &Json, samples: usize) -> Result<Vec<Option<f64>>, Failure> {
    let Json::List(items) = value else {
        let message = format!(
            "`{name}` is {}, expected a list of {samples} numbers, one for each sample",
            value.what()
        );
        return Err(user(message));
    };
    if items.len() != samples {
        let message = format!(
            "`{name}` has {} numbers, expected {samples}, one for each sample",
            items.len()
        );
        return Err(user(message));
    }
    items.iter().map(|item| number(name, item)).collect()
}

/// The mean of the numbers that there are, added up in their order.
fn mean(all: &[Option<f64>]) -> Option<f64> {
    let known: Vec<f64> = all.iter().flatten().copied().collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

/// The beginning of a line, for an error.
fn shortened(text: &str) -> String {
    const MOST: usize = 80;
    match text.chars().count() > MOST {
        true => format!("{}…", text.chars().take(MOST).collect::<String>()),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::samples::Output;

    fn rows() -> Vec<Sampled> {
        let output = || Output {
            text: "a b".into(),
            tokens: vec![1, 2],
            logprob: -1.0,
            ended: true,
            reward: None,
            raw_reward: None,
        };
        let row = |split: &str, id: &str, samples: usize| Sampled {
            split: split.into(),
            id: id.into(),
            prompt: "p".into(),
            chat: false,
            temperature: None,
            outputs: (0..samples).map(|_| output()).collect(),
            best_of: None,
            candidates: Vec::new(),
        };
        vec![row("test/id", "0", 2), row("test/id", "1", 3), row("test/ood", "0", 1)]
    }

    fn read(per: Per, names: &[&str], printed: &str) -> Result<Vec<Valued>> {
        Expected { program: "sh", per, names: names.to_vec() }.read(printed.as_bytes(), &rows())
    }

    fn line(split: &str, id: &str, values: &str) -> String {
        format!("{{\"split\":\"{split}\",\"id\":\"{id}\",\"values\":{values}}}\n")
    }

    /// Lines may come in any order; numbers are rounded as JSON's are; an id belongs to its split.
    #[test]
    fn lines_are_put_in_the_order_of_the_rows() {
        let printed = line("test/ood", "0", "{\"x\": 1e-1}")
            + &line("test/id", "1", "{\"x\": null}")
            + &line("test/id", "0", "{\"x\": -3}");
        let found = read(Per::Input, &["x"], &printed).expect("it is right");
        let values: Vec<_> = found
            .iter()
            .map(|row| (row.split.as_str(), row.id.as_str(), row.samples, row.values["x"]))
            .collect();
        assert_eq!(
            values,
            [
                ("test/id", "0", 2, Some(-3.0)),
                ("test/id", "1", 3, None),
                ("test/ood", "0", 1, Some(0.1))
            ]
        );
        let without_end = printed.trim_end();
        assert_eq!(read(Per::Input, &["x"], without_end).expect("it is right"), found);
    }

    /// By hand: the mean of 1 and 4 is 2.5, that of 5 alone is 5, and of nothing there is none.
    #[test]
    fn a_number_of_an_input_is_the_mean_of_its_samples_that_have_one() {
        let printed = line("test/id", "0", "{\"x\": [1, 4]}")
            + &line("test/id", "1", "{\"x\": [null, 5, null]}")
            + &line("test/ood", "0", "{\"x\": [null]}");
        let found = read(Per::Sample, &["x"], &printed).expect("it is right");
        let means: Vec<Option<f64>> = found.iter().map(|row| row.values["x"]).collect();
        assert_eq!(means, [Some(2.5), Some(5.0), None]);
        assert_eq!(found[1].each["x"], [None, Some(5.0), None]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_row() {
        let good = line("test/id", "0", "{\"x\": 1}");
        let cases: &[(Per, &str, &str, &str)] = &[
            (Per::Input, "x", "", "printed no line for 3 of 3 rows, the first of which is row `0`"),
            (
                Per::Input,
                "x",
                good.as_str(),
                "no line for 2 of 3 rows, the first of which is row `1`",
            ),
            (Per::Input, "x", "\n\n", "line 1 that `sh` printed: it is no JSON: EOF"),
            (Per::Input, "x", "x = 1\n", "it is no JSON: expected value; found `x = 1`"),
            (Per::Input, "x", &line("test/id", "0", "{\"x\": NaN}"), "it is no JSON"),
            (Per::Input, "x", &line("test/id", "0", "{\"x\": 1, \"x\": 2}"), "given twice"),
            (Per::Input, "x", "[1]\n", "it is a list, expected an object"),
            (Per::Input, "x", "{\"split\": \"test/id\"}\n", "it has no field `id`"),
            (
                Per::Input,
                "x",
                "{\"split\":\"a\",\"id\":\"b\",\"values\":{},\"prompt\":\"\"}\n",
                "it has a field `prompt`, expected `split`, `id`, `values` alone",
            ),
            (
                Per::Input,
                "x",
                "{\"split\":\"test/id\",\"id\":0,\"values\":{\"x\":1}}\n",
                "`id` is a number, expected the text",
            ),
            (
                Per::Input,
                "x",
                &line("test/id", "7", "{\"x\": 1}"),
                "the samples have no row `7` in split `test/id`",
            ),
            (
                Per::Input,
                "x",
                &(good.clone() + &good),
                "line 2 that `sh` printed (row `0` of split `test/id`): line 1 has this",
            ),
            (
                Per::Input,
                "x",
                &line("test/id", "0", "3"),
                "`values` is a number, expected an object",
            ),
            (Per::Input, "x", &line("test/id", "0", "{}"), "`values` has no `x`"),
            (
                Per::Input,
                "x",
                &line("test/id", "0", "{\"x\": 1, \"y\": 1}"),
                "`values` has `y`, expected the names under `values` of the stage: x",
            ),
            (
                Per::Input,
                "x",
                &line("test/id", "0", "{\"x\": \"1\"}"),
                "`x` is a text, expected a finite number or null",
            ),
            (
                Per::Input,
                "x",
                &line("test/id", "0", "{\"x\": 1e999}"),
                "`x` is 1e999, which is beyond double precision",
            ),
            (Per::Input, "x", &line("test/id", "0", "{\"x\": true}"), "`x` is a truth value"),
            (
                Per::Input,
                "share_x",
                &line("test/id", "0", "{\"share_x\": 1.5}"),
                "`share_x` is 1.5, expected from 0 to 1",
            ),
            (
                Per::Sample,
                "x",
                &line("test/id", "0", "{\"x\": 1}"),
                "`x` is a number, expected a list of 2 numbers",
            ),
            (
                Per::Sample,
                "x",
                &line("test/id", "0", "{\"x\": [1]}"),
                "`x` has 1 numbers, expected 2, one for each sample",
            ),
        ];
        for &(per, name, printed, wanted) in cases {
            let error = read(per, &[name], printed).expect_err("it is wrong");
            let message = format!("{error:#}");
            assert!(message.contains(wanted), "{printed}: {message}");
            assert!(message.contains("hint: expected a line {\"split\": …"), "{message}");
        }
        let error = Expected { program: "sh", per: Per::Input, names: vec!["x"] }
            .read(b"\xff\n", &rows())
            .expect_err("it is wrong");
        assert!(format!("{error:#}").contains("it is not UTF-8"), "{error:#}");
    }
}
