//! The page on which people judge, in a headless Chromium: answered by the keyboard, left and
//! resumed, saved as a sheet that the stage `judge` reads; at the widths of a desktop and of a
//! phone.
//! `POSTTRAIN_TESTS_PICTURES=DIR` keeps what it looks like.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::browser::{Browser, program};
use super::skip;
use crate::cli::place::{Place, wait_until};
use crate::stages::bench::make;
use crate::stages::fixture::{fixture, jsonl, write};

/// A folder with samples of another method, and a browser; none where there is no browser.
fn opened() -> Option<(Place, Browser)> {
    let Some(program) = program() else {
        skip("headless Chromium");
        return None;
    };
    let place = Place::new("");
    let samples = std::fs::read_to_string(fixture().path("samples/samples.jsonl")).unwrap();
    let other = samples.lines().map(|line| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        for output in row["outputs"].as_array_mut().unwrap() {
            output["text"] = json!(" nobody knows <b>what</b> to do .");
        }
        row
    });
    write(&place.path("other/samples.jsonl"), &jsonl(other));
    Some((place, Browser::start(&program)))
}

/// Exports a page of the first rows of a test set for `ann`, of sets or of single answers.
fn page(place: &Place, set: bool) -> PathBuf {
    let [dataset, a] =
        ["dataset", "samples"].map(|name| fixture().path(name).display().to_string());
    let own = ["annotate", "export", "--dataset", &dataset, "--a", &a, "--b", "other"];
    let more = ["--split", "test/id", "--out", "page.html", "--annotator", "ann"];
    let set: &[&str] = if set { &["--set", "3"] } else { &[] };
    place.good(&[&own[..], &more, set].concat());
    place.path("page-ann.html")
}

fn press(browser: &mut Browser, key: &str) {
    for kind in ["keyDown", "keyUp"] {
        browser.call("Input.dispatchKeyEvent", json!({"type": kind, "key": key}));
    }
}

fn count(browser: &mut Browser) -> String {
    let text = browser.value("document.getElementById('count').textContent");
    text.as_str().unwrap().to_owned()
}

/// The sheet that the page saves at the key `s`.
fn saved(browser: &mut Browser, folder: &Path) -> PathBuf {
    let behaviour = json!({"behavior": "allow", "downloadPath": folder});
    browser.call("Page.setDownloadBehavior", behaviour);
    press(browser, "s");
    let path = folder.join("judgements-ann.csv");
    wait_until("the sheet is saved", || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.ends_with("\r\n"))
    });
    path
}

#[test]
fn a_page_is_answered_by_the_keyboard_left_resumed_and_saved() {
    let Some((place, mut browser)) = opened() else { return };
    for set in [true, false] {
        let path = page(&place, set);
        browser.open(&path, 1280, 900, "light");
        let items: Value = browser.value("items");
        let items = items.as_array().unwrap().clone();
        assert_eq!(items.len(), 5);
        assert_eq!(count(&mut browser), "1 of 5, 0 judged");
        assert_eq!(browser.value("document.getElementById('who').value"), "ann");
        // The first for a, the second neither, back and forth, the third for b.
        let side = |at: usize, a: bool| if (items[at]["order"] == "ab") == a { "1" } else { "2" };
        press(&mut browser, side(0, true));
        press(&mut browser, "0");
        press(&mut browser, "ArrowLeft");
        assert_eq!(count(&mut browser), "2 of 5, 2 judged");
        let chosen =
            "[...document.querySelectorAll('button.chosen')].map((one) => one.dataset.choice)";
        assert_eq!(browser.value(chosen), json!(["0"]));
        press(&mut browser, "n");
        assert_eq!(count(&mut browser), "3 of 5, 2 judged");
        // Another page of the browser finds what was chosen.
        browser.open(&path, 390, 844, "dark");
        assert_eq!(count(&mut browser), "3 of 5, 2 judged");
        press(&mut browser, side(2, false));
        press(&mut browser, "ArrowRight");
        press(&mut browser, side(4, true));
        press(&mut browser, "n");
        assert_eq!(count(&mut browser), "4 of 5, 4 judged");
        press(&mut browser, side(3, true));
        let said = browser.value("document.getElementById('said').textContent");
        assert!(said.as_str().unwrap().contains("All items are judged: save the sheet"), "{said}");
        let folder = place.path(if set { "sets" } else { "pairs" });
        std::fs::create_dir(&folder).unwrap();
        let sheet = saved(&mut browser, &folder);
        assert_eq!(browser.value("document.getElementById('said').textContent"), "");
        assert_eq!(browser.complaints, Vec::<String>::new());
        let mut people = json!({"sheets": [{"$path": sheet}]});
        if set {
            people["set"] = json!(3);
        }
        let judged = make(
            "judge",
            json!({"dataset": fixture().at("dataset"), "splits": ["test/id"],
                "a": fixture().at("samples"), "b": {"$path": place.path("other")},
                "judge": {"people": people}}),
        );
        let found: Vec<Value> = judged.rows("items.jsonl");
        for item in found {
            let at = items.iter().position(|one| one["id"] == item["id"]).unwrap();
            assert_eq!(item["majority"], ["a", "tie", "b", "a", "a"][at], "{item}");
            assert_eq!(item["key"], items[at]["key"]);
        }
    }
}

#[test]
fn the_page_fits_both_widths_in_both_themes_and_shows_every_text_as_text() {
    let Some((place, mut browser)) = opened() else { return };
    for set in [true, false] {
        let path = page(&place, set);
        for (width, height, theme) in
            [(1280, 900, "light"), (1280, 900, "dark"), (390, 844, "light"), (390, 844, "dark")]
        {
            browser.open(&path, width, height, theme);
            press(&mut browser, "1");
            press(&mut browser, "ArrowLeft");
            let overflow = browser.value("document.documentElement.scrollWidth - innerWidth");
            assert!(overflow.as_i64().unwrap() <= 0, "{overflow} pixels wider than {width}");
            let paper = browser.value("getComputedStyle(document.body).backgroundColor");
            assert_eq!(paper == "rgb(255, 255, 255)", theme == "light", "{paper}");
            // Buttons are in the window, whatever the length of the texts.
            let cut = "[...document.querySelectorAll('footer button')].filter((button) => { \
                const box = button.getBoundingClientRect(); \
                return box.bottom > innerHeight + 1 || box.right > innerWidth + 1; }).length";
            assert_eq!(browser.value(cut), 0);
            let texts = browser.value("document.getElementById('two').textContent");
            assert!(texts.as_str().unwrap().contains("<b>what</b>"), "{texts}");
            let shown = browser.value("document.querySelectorAll('#two .text').length");
            assert_eq!(shown, if set { 6 } else { 2 });
            assert_eq!(browser.complaints, Vec::<String>::new());
            if let Some(folder) = std::env::var_os("POSTTRAIN_TESTS_PICTURES") {
                let kind = if set { "sets" } else { "pairs" };
                let name = format!("annotate-{kind}-{width}-{theme}.base64");
                std::fs::write(Path::new(&folder).join(name), browser.picture()).unwrap();
            }
        }
    }
}

#[test]
fn a_page_without_a_name_asks_for_it_before_it_saves() {
    let Some((place, mut browser)) = opened() else { return };
    let [dataset, a] =
        ["dataset", "samples"].map(|name| fixture().path(name).display().to_string());
    place.good(&["annotate", "export", "--dataset", &dataset, "--a", &a, "--out", "page.html"]);
    browser.open(&place.path("page.html"), 1280, 900, "light");
    press(&mut browser, "1");
    press(&mut browser, "s");
    let said = browser.value("document.getElementById('said').textContent");
    assert_eq!(said, "Give your name first: the sheet is known by it.");
    assert_eq!(browser.value("document.activeElement.id"), "who");
    // In the field a digit is a part of the name, not a choice.
    let before = count(&mut browser);
    browser.call("Input.insertText", json!({"text": "ann"}));
    press(&mut browser, "2");
    assert_eq!(count(&mut browser), before);
    assert_eq!(browser.value("document.getElementById('said').textContent"), "");
    browser.value("document.getElementById('who').blur()");
    let sheet = std::fs::read_to_string(saved(&mut browser, &place.path(""))).unwrap();
    assert!(sheet.lines().nth(1).unwrap().starts_with("ann,test/id,"), "{sheet}");
    // A table of all rows, of which one has a choice.
    let choices: Vec<&str> =
        sheet.lines().skip(1).map(|line| line.split(',').nth(4).unwrap()).collect();
    assert_eq!((choices.len(), choices[0]), (10, "1"));
    assert!(choices[1..].iter().all(|choice| choice.is_empty()));
}
