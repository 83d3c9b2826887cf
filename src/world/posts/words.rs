//! The words of the synthetic world: forums, the values of each slot, and the wordings of posts and
//! summaries. Data only.
//!
//! No value of one slot is a value of another, and no wording contains a value, so a text's values
//! can be read back exactly (tested in `gold`). Forums have their own people and things; the
//! held-out forum shares half of them, but never a combination of facts.

use serde::{Deserialize, Serialize};

/// A fact that every post states. Its number is its place in an array of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Slot {
    /// Who did it.
    Who,
    /// What was done.
    Verb,
    /// To which thing.
    Obj,
    /// What the poster has tried.
    Done,
    /// By when an answer is needed.
    When,
    /// What the poster wants to know.
    Ask,
}

/// All slots, in order.
pub const SLOTS: [Slot; 6] = [Slot::Who, Slot::Verb, Slot::Obj, Slot::Done, Slot::When, Slot::Ask];

impl Slot {
    /// The name in wordings, configs and reports.
    pub fn name(self) -> &'static str {
        ["who", "verb", "obj", "done", "when", "ask"][self as usize]
    }

    /// The name as it is in a wording: `{who}`.
    pub fn class(self) -> &'static str {
        ["{who}", "{verb}", "{obj}", "{done}", "{when}", "{ask}"][self as usize]
    }
}

/// A forum: the values that are its own.
#[derive(Debug)]
pub struct Forum {
    /// Its name, which heads its posts.
    pub name: &'static str,
    who: &'static [&'static str],
    obj: &'static [&'static str],
    done: &'static [&'static str],
    ask: &'static [&'static str],
}

impl Forum {
    /// The values a slot can take in this forum: those of all forums, then its own.
    pub fn values(&self, slot: Slot) -> Vec<&'static str> {
        match slot {
            Slot::Who => self.who.to_vec(),
            Slot::Verb => VERB.to_vec(),
            Slot::Obj => self.obj.to_vec(),
            Slot::Done => [DONE, self.done].concat(),
            Slot::When => WHEN.to_vec(),
            Slot::Ask => [ASK, self.ask].concat(),
        }
    }

    /// The forum called `name`.
    pub fn named(name: &str) -> Option<&'static Forum> {
        FORUMS.iter().chain([&HELD_OUT]).find(|forum| forum.name == name)
    }
}

/// The forums of the training distribution.
pub const FORUMS: &[Forum] = &[
    Forum {
        name: "family",
        who: &["mother", "father", "brother", "sister", "uncle", "aunt", "cousin", "grandma"],
        obj: &["ring", "car", "photos", "piano", "garden", "recipe", "watch", "necklace"],
        done: &["asked relatives", "visited therapy"],
        ask: &["skip dinner", "move out"],
    },
    Forum {
        name: "work",
        who: &[
            "boss",
            "manager",
            "coworker",
            "client",
            "intern",
            "director",
            "supplier",
            "assistant",
        ],
        obj: &["laptop", "contract", "report", "badge", "invoice", "printer", "budget", "schedule"],
        done: &["told hr", "checked logs"],
        ask: &["quit", "request transfer"],
    },
    Forum {
        name: "home",
        who: &[
            "roommate",
            "landlord",
            "neighbor",
            "plumber",
            "tenant",
            "janitor",
            "electrician",
            "painter",
        ],
        obj: &["sofa", "heater", "key", "fridge", "carpet", "window", "deposit", "bike"],
        done: &["changed locks", "took pictures"],
        ask: &["break lease", "withhold rent"],
    },
    Forum {
        name: "school",
        who: &[
            "teacher",
            "professor",
            "tutor",
            "classmate",
            "principal",
            "coach",
            "dean",
            "librarian",
        ],
        obj: &["essay", "notebook", "locker", "project", "exam", "textbook", "grade", "microscope"],
        done: &["joined meetings", "printed copies"],
        ask: &["drop class", "appeal"],
    },
];

/// The forum of the out-of-distribution test set: seen in pre-training only. It shares 4 of 8
/// people and things with the others: with none in common nothing but the score's floor is
/// measured.
pub const HELD_OUT: Forum = Forum {
    name: "travel",
    who: &["guide", "driver", "pilot", "clerk", "cousin", "manager", "neighbor", "teacher"],
    obj: &["passport", "luggage", "ticket", "camera", "car", "laptop", "key", "notebook"],
    done: &["visited embassy", "froze cards"],
    ask: &["fly home", "rebook"],
};

const VERB: &[&str] = &["lost", "broke", "sold", "hid", "damaged", "stole", "ruined", "burned"];
const WHEN: &[&str] = &[
    "monday",
    "tuesday",
    "wednesday",
    "thursday",
    "friday",
    "saturday",
    "sunday",
    "tomorrow",
    "tonight",
    "christmas",
    "easter",
    "noon",
];
const DONE: &[&str] = &[
    "sent emails",
    "called police",
    "offered money",
    "wrote letters",
    "filed complaints",
    "searched online",
];
const ASK: &[&str] = &["sue", "apologize", "wait", "forgive", "complain", "pay"];

/// The wordings of one register of posts.
#[derive(Debug)]
pub struct Wordings {
    /// The problem: who, verb, obj.
    pub problem: &'static [&'static str],
    /// What was tried.
    pub done: &'static [&'static str],
    /// By when.
    pub when: &'static [&'static str],
    /// The question.
    pub ask: &'static [&'static str],
    /// Sentences that name who or obj a second time.
    pub again: &'static [&'static str],
    /// Sentences that name another value of a slot, in a part that is plainly not the fact's.
    pub distractors: &'static [(Slot, &'static [&'static str])],
    /// Sentences without facts.
    pub filler: &'static [&'static str],
}

/// Forum posts.
pub const POST: Wordings = Wordings {
    problem: &[
        "my {who} {verb} my {obj} .",
        "so last month my {who} {verb} my {obj} .",
        "it turns out that my {who} {verb} my {obj} .",
        "i found out my {who} {verb} my {obj} .",
        "basically my {who} {verb} my {obj} and said nothing .",
        "my {who} got careless and {verb} my {obj} .",
    ],
    done: &[
        "i already {done} .",
        "so far i have {done} .",
        "i {done} but it did not help .",
        "to fix this i {done} .",
        "i even {done} without any luck .",
    ],
    when: &[
        "i need to decide by {when} .",
        "everything has to be settled by {when} .",
        "the deadline is {when} .",
        "i have until {when} to act .",
        "they want an answer by {when} .",
    ],
    ask: &[
        "should i {ask} ?",
        "i wonder if i should {ask} .",
        "would it be wrong to {ask} ?",
        "is it time to {ask} ?",
        "what i want to know is whether to {ask} .",
    ],
    again: &[
        "the {who} does not seem to care .",
        "i used to trust my {who} a lot .",
        "the {obj} meant a lot to me .",
        "i cannot stop thinking about the {obj} .",
        "my {who} keeps denying it .",
        "that {obj} was not cheap .",
    ],
    distractors: &[
        (
            Slot::Who,
            &[
                "a {who} told me not to worry .",
                "i asked my {who} for advice too .",
                "my {who} thinks this is funny .",
            ],
        ),
        (Slot::Obj, &["at least the {obj} is fine .", "nobody touched the {obj} luckily ."]),
        (Slot::When, &["this all started on {when} .", "we first argued about it on {when} ."]),
        (Slot::Done, &["others would have {done} but not me .", "i never {done} ."]),
        (Slot::Ask, &["my friends say i must not {ask} .", "i am not going to {ask} ."]),
    ],
    filler: &[
        "sorry for the long post .",
        "i am on mobile .",
        "this is a throwaway account .",
        "i am really stressed .",
        "things were fine before .",
        "i do not sleep well .",
        "please be kind .",
        "i never post here .",
        "we used to get along .",
        "i am not good with words .",
        "it feels unfair .",
        "the weather was awful too .",
    ],
};

/// News reports: the same facts in the third person.
pub const NEWS: Wordings = Wordings {
    problem: &[
        "a local {who} has {verb} a {obj} , officials said .",
        "according to witnesses , a {who} {verb} the {obj} of a resident .",
        "the {obj} was reportedly {verb} by a {who} .",
    ],
    done: &["the resident has {done} , a spokesman said .", "records show that the owner {done} ."],
    when: &["a ruling is expected by {when} .", "authorities set {when} as the deadline ."],
    ask: &["experts debate whether to {ask} .", "the owner may {ask} , sources said ."],
    again: &["the {who} declined to comment .", "the {obj} has not been replaced ."],
    distractors: &[
        (Slot::Who, &["a {who} in the area was not involved ."]),
        (Slot::Obj, &["a nearby {obj} was not affected ."]),
        (Slot::When, &["the incident was reported on {when} ."]),
        (Slot::Done, &["the council has not {done} ."]),
        (Slot::Ask, &["critics urged the owner not to {ask} ."]),
    ],
    filler: &[
        "the investigation continues .",
        "traffic was not affected .",
        "the mayor expressed concern .",
        "no injuries were reported .",
        "similar cases were seen last year .",
    ],
};

/// Titles of forum posts.
pub const TITLES: &[&str] = &[
    "trouble with my {who}",
    "my {obj} is gone",
    "{who} and {obj} drama",
    "need advice about my {who}",
    "what to do about my {obj}",
    "help with a problem",
    "not sure what to do",
];
/// First sentences of forum posts.
pub const OPENERS: &[&str] =
    &["hi everyone .", "hello all .", "so .", "ok here goes .", "long time reader ."];
/// What some posts without a summary end with.
pub const EDIT: &str = "edit : thanks for reading .";

/// Summaries of the whole problem.
pub const CORE: &[&str] = &[
    "my {who} {verb} my {obj}",
    "{who} {verb} my {obj}",
    "the {who} {verb} the {obj}",
    "my {who} {verb} the {obj}",
    "so my {who} {verb} my {obj}",
    "{who} {verb} the {obj}",
];
/// Summaries of the problem that name only who.
pub const CORE_WHO: &[&str] =
    &["problem with my {who}", "angry at my {who}", "my {who} is a problem"];
/// Summaries of the problem that leave who out.
pub const CORE_OBJ: &[&str] = &["my {obj} got {verb}", "someone {verb} my {obj}", "{verb} {obj}"];
/// Summaries of what was tried.
pub const TOLD_DONE: &[&str] = &[
    "i {done}",
    "already {done}",
    "{done} already",
    "i have {done}",
    "{done} so far",
    "even {done}",
];
/// Summaries of the deadline.
pub const TOLD_WHEN: &[&str] = &[
    "need answer by {when}",
    "must decide by {when}",
    "deadline is {when}",
    "only until {when}",
    "due {when}",
];
/// Summaries of the question.
pub const TOLD_ASK: &[&str] = &[
    "should i {ask} ?",
    "do i {ask} ?",
    "is it ok to {ask} ?",
    "want to {ask}",
    "{ask} or not ?",
    "thinking to {ask}",
];
/// Words around a summary that say nothing.
pub const CHATTER: &[&str] = &[
    "please help",
    "long story",
    "sorry for the wall of text",
    "i am so tired of this",
    "no idea what to do",
    "any advice welcome",
];
/// Summaries that are none.
pub const JUNK: &[&str] =
    &["it is complicated", "read the post", "life is hard", "just read it", "people are awful"];

/// A wording with the values of its slots put in.
pub fn fill(wording: &str, values: &[&str; 6]) -> String {
    let mut text = String::with_capacity(wording.len() + 16);
    for word in wording.split(' ') {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(
            SLOTS
                .iter()
                .find(|slot| slot.class() == word)
                .map_or(word, |slot| values[*slot as usize]),
        );
    }
    text
}
