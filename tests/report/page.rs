//! The page in a headless Chromium, at the width of a desktop and of a phone: nothing goes wrong,
//! every chart is drawn, filters filter, and no text of a model runs.
//! `POSTTRAIN_TESTS_PICTURES=DIR` keeps what it looks like.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::read::ZlibDecoder;
use posttrain::eval::compare::Difference;
use posttrain::report::page::{SAMPLES, page};
use posttrain::report::run::{Evaluation, Run};
use serde_json::json;

use super::browser::{Browser, program};
use super::fixture::{HOSTILE, INPUTS, METHODS, TEST_SETS, run};
use super::skip;

/// The page's data, unpacked, long tables among them.
pub(super) fn unpacked(page: &str) -> String {
    let elements = page.split("<script type=\"text/plain\" id=\"").skip(1);
    let text = |element: &str| {
        let (_, rest) = element.split_once('>').unwrap();
        let bytes = STANDARD.decode(rest.split_once('<').unwrap().0).unwrap();
        let mut text = String::new();
        ZlibDecoder::new(bytes.as_slice()).read_to_string(&mut text).unwrap();
        text
    };
    elements.map(text).collect()
}

/// Draws every chart by going through the page, as a reader would.
pub(super) const READ: &str = "(async () => \
    { for (const place of document.querySelectorAll('.plot')) { place.scrollIntoView(); await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 20))); } window.scrollTo(0, 0); return true; })()";

/// The page in a file, and a browser to see it in; none where there is no browser.
fn opened(samples: usize) -> Option<(tempfile::TempDir, std::path::PathBuf, Browser)> {
    let Some(program) = program() else {
        skip("headless Chromium");
        return None;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    std::fs::write(&path, page(&run(), Some(samples))).unwrap();
    Some((folder, path, Browser::start(&program)))
}

/// Opens the page and waits until its data are unpacked.
pub(super) fn open(
    browser: &mut Browser,
    path: &std::path::Path,
    width: u32,
    height: u32,
    theme: &str,
) {
    browser.open(path, width, height, theme);
    browser.wait("'ready' in document.documentElement.dataset");
}

/// Keeps a picture of the page where it is asked for.
pub(super) fn keep(browser: &mut Browser, name: &str) {
    if let Some(folder) = std::env::var_os("POSTTRAIN_TESTS_PICTURES") {
        std::fs::write(
            std::path::Path::new(&folder).join(format!("{name}.base64")),
            browser.picture(),
        )
        .unwrap();
    }
}

#[test]
fn every_chart_is_drawn_at_both_widths_in_both_themes_without_a_complaint() {
    let Some((_folder, path, mut browser)) = opened(SAMPLES) else { return };
    for (width, height, theme) in
        [(1280, 900, "light"), (1280, 900, "dark"), (390, 844, "light"), (390, 844, "dark")]
    {
        open(&mut browser, &path, width, height, theme);
        assert_eq!(browser.value("document.documentElement.dataset.theme"), theme);
        browser.value(READ);
        let count = browser.value("document.querySelectorAll('.plot').length").as_u64().unwrap();
        // Every seed and what a seed changes, with one metric's bars; three scatters, gaps,
        // best-of-n of three sets and their frontiers, what stages changed, pass@k and best@k, the
        // branching factor, the similarity of methods, the optimum of two sets by three metrics,
        // over-optimisation, calibration, seven bars;
        // PPO's five, three stages of two; the graph and its times.
        assert_eq!(count, 2 + 1 + 3 + 1 + 3 + 3 + 1 + 2 + 2 + 2 * 3 + 2 + 7 + 5 + 3 * 2 + 2);
        browser.wait(
            "[...document.querySelectorAll('.plot')].every((place) => \
             place.querySelector('svg.main-svg'))",
        );
        let empty = "[...document.querySelectorAll('.plot')].filter((place) => \
            !place.querySelector('.trace path, .trace .point, .trace rect, .points path')) \
            .map((place) => place.ariaLabel)";
        assert_eq!(browser.value(empty), serde_json::json!([]), "charts with nothing in them");
        let past = "[...document.querySelectorAll('.plot')].filter((place) => \
            place.querySelector('svg').getBoundingClientRect().right > innerWidth + 1).length";
        assert_eq!(browser.value(past), 0, "charts wider than the window");
        let cut = "[...document.querySelectorAll('.plot')].flatMap((place) => { \
            const chart = place.querySelector('svg').getBoundingClientRect(); \
            return [...place.querySelectorAll('.xtitle, .ytitle')].filter((title) => { \
                const box = title.getBoundingClientRect(); \
                return box.top < chart.top - 1 || box.bottom > chart.bottom + 1 \
                    || box.left < chart.left - 1 || box.right > chart.right + 1; \
            }).map((title) => place.ariaLabel + ': ' + title.textContent); })";
        assert_eq!(browser.value(cut), serde_json::json!([]), "titles of axes that are cut");
        let overflow =
            browser.value("document.documentElement.scrollWidth - innerWidth").as_i64().unwrap();
        assert!(overflow <= 0, "the page is {overflow} pixels wider than a window of {width}");
        assert_eq!(browser.complaints, Vec::<String>::new());
        keep(&mut browser, &format!("{width}-{theme}"));
    }
}

#[test]
fn uncertainty_is_drawn_with_every_result() {
    let Some((_folder, path, mut browser)) = opened(SAMPLES) else { return };
    open(&mut browser, &path, 1280, 900, "light");
    browser.value(READ);
    let bars = "[...document.querySelectorAll('section[aria-label=\"Results of report\"] .plot, \
        #seeds .plot[aria-label=\"gold, every seed\"]')].map((place) => \
        place.querySelectorAll('.errorbar').length + place.querySelectorAll('.js-fill').length)";
    let bars: Vec<u64> = serde_json::from_value(browser.value(bars)).unwrap();
    assert!(bars.len() == 31 && bars.iter().all(|count| *count > 0), "{bars:?}");
}

#[test]
fn what_a_model_has_written_never_runs() {
    let Some((_folder, path, mut browser)) = opened(SAMPLES) else { return };
    open(&mut browser, &path, 1280, 900, "light");
    browser.value(READ);
    browser.value(
        "document.querySelectorAll('details').forEach((details) => { details.open = true; })",
    );
    browser.value(
        "while (!document.getElementById('more').hidden) document.getElementById('more').click()",
    );
    let texts = browser.value("document.querySelectorAll('.answer').length").as_u64().unwrap();
    assert_eq!(texts as usize, TEST_SETS.len() * INPUTS * METHODS.len());
    assert_eq!(browser.value("typeof window.harmed"), "undefined");
    let own = "document.querySelectorAll('#inputs img, #inputs script, #inputs svg, #reproduce \
        svg, #nodes img, [onmouseover], [onerror]').length";
    assert_eq!(browser.value(own), 0);
    let shown = browser.value("document.getElementById('inputs').textContent");
    for text in HOSTILE {
        assert!(shown.as_str().unwrap().contains(text.trim()), "{text} is shown as it is");
    }
    // Neither would a script of theirs, had it got in: it lacks the nonce.
    browser.complaints.clear();
    browser.value(
        "document.body.append(Object.assign(document.createElement('script'), \
         {textContent: 'window.harmed = 5'}))",
    );
    browser.value(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"data:,\" \
         onerror=\"window.harmed = 6\">')",
    );
    browser.value("new Promise((done) => setTimeout(done, 100))");
    assert_eq!(browser.value("typeof window.harmed"), "undefined");
    assert!(!browser.complaints.is_empty(), "the browser says that it refused");
}

#[test]
fn samples_are_filtered_searched_and_ordered() {
    let Some((_folder, path, mut browser)) = opened(SAMPLES) else { return };
    open(&mut browser, &path, 390, 844, "dark");
    let all = TEST_SETS.len() * INPUTS;
    let found = |browser: &mut Browser| {
        browser.value("document.getElementById('found').textContent").as_str().unwrap().to_owned()
    };
    let set = |browser: &mut Browser, id: &str, value: &str| {
        let event = if id == "search" { "input" } else { "change" };
        let value = serde_json::to_string(value).unwrap();
        let script = format!(
            "(() => {{ const field = document.getElementById('{id}'); field.value = {value}; field.dispatchEvent(new Event('{event}', {{bubbles: true}})); return field.value; }})()"
        );
        assert_eq!(
            browser.value(&script),
            serde_json::from_str::<serde_json::Value>(&value).unwrap()
        );
    };
    assert_eq!(found(&mut browser), format!("{all} inputs, 20 shown"));
    browser.value("document.getElementById('more').click()");
    assert_eq!(found(&mut browser), format!("{all} inputs, 40 shown"));
    set(&mut browser, "test-set", "ood_<b>length");
    assert_eq!(found(&mut browser), format!("{INPUTS} inputs, 20 shown"));
    let headings = "[...document.querySelectorAll('.input h3')].every((heading) => \
        heading.textContent.startsWith('ood_<b>length, '))";
    assert_eq!(browser.value(headings), true);
    set(&mut browser, "search", "QUOKKA");
    assert_eq!(found(&mut browser), "0 inputs, 0 shown");
    set(&mut browser, "test-set", "");
    assert_eq!(found(&mut browser), "1 input, 1 shown");
    // Every method's answer, side by side, with its scores.
    let methods = browser.value(
        "[...document.querySelectorAll('.answer h4')].map((heading) => heading.textContent)",
    );
    assert_eq!(methods, serde_json::json!(METHODS));
    assert!(
        browser
            .value("document.querySelector('.answer .note').textContent")
            .as_str()
            .unwrap()
            .contains("gold ")
    );
    set(&mut browser, "search", "");
    let gold = "[...document.querySelectorAll('.input')].map((input) => Number(/gold \
        (\\S+?),/.exec(input.querySelectorAll('.answer')[2].textContent)[1]))";
    for (way, sign) in [(1, 1.0), (-1, -1.0)] {
        set(&mut browser, "order", &format!("[\"ppo\",\"gold\",{way}]"));
        let golds: Vec<f64> = serde_json::from_value(browser.value(gold)).unwrap();
        assert!(
            golds.len() == 20 && golds.windows(2).all(|pair| sign * pair[0] >= sign * pair[1]),
            "{golds:?}"
        );
    }
    assert_eq!(browser.complaints, Vec::<String>::new());
}

#[test]
fn the_theme_can_be_changed_by_the_keyboard_and_charts_follow() {
    let Some((_folder, path, mut browser)) = opened(SAMPLES) else { return };
    open(&mut browser, &path, 1280, 900, "light");
    browser.wait(
        "document.querySelector('.plot svg .bg') !== null || document.querySelector('.plot \
         svg.main-svg') !== null",
    );
    let paper = "document.querySelector('.plot svg.main-svg').style.background";
    let before = browser.value(paper);
    browser.value("document.getElementById('theme').focus()");
    for kind in ["keyDown", "keyUp"] {
        browser.call(
            "Input.dispatchKeyEvent",
            serde_json::json!({"type": kind, "key": "Enter", "code": "Enter", "text": "\r",
                "windowsVirtualKeyCode": 13}),
        );
    }
    assert_eq!(browser.value("document.documentElement.dataset.theme"), "dark");
    browser.wait(&format!("{paper} !== {before}"));
}

#[test]
fn a_large_run_is_cut_and_says_so() {
    let whole = page(&run(), Some(10));
    let text = whole.clone() + &unpacked(&whole);
    assert!(
        text.contains("Of 30 inputs of id, the first 10 are here.") && text.contains("--samples N")
    );
    assert_eq!(text.matches("\"id\":\"row-9\"").count(), TEST_SETS.len());
    assert!(!text.contains("\"id\":\"row-10\"") && !page(&run(), None).contains("id=left-out"));
    assert!(text.contains("Charts have about 1000 points, at least 100 a line"));
}

#[test]
fn the_page_is_one_file_with_tables_that_need_no_script() {
    let text = page(&run(), None);
    assert!(unpacked(&text).contains("plotly.js v"), "plotly.js is in the page");
    assert!(text.len() < 2_500_000, "{} bytes", text.len());
    let own = text.replace("https://", "");
    assert!(!own.contains("src=\"http") && !own.contains("href=\"http"));
    for word in [
        "<caption><b>gold</b>",
        "<th scope=row>best_of_n",
        "<th scope=col>ood_&lt;b&gt;length",
        "posttrain run study.yaml",
    ] {
        assert!(text.contains(word), "{word}");
    }
    assert_eq!(page(&run(), None), text, "the same run, the same bytes");
}

/// Five seeds of one evaluation with more differences than a page can have as HTML.
fn many() -> Run {
    let mut run = run();
    let own = run.evaluations.iter().find(|one| one.seeds.is_empty()).unwrap().clone();
    let seed = |seed: usize| {
        let mut evaluation = Evaluation { node: format!("evaluation[seed={seed}]"), ..own.clone() };
        let differences = own.comparisons.differences.iter().filter(|one| one.metric == "gold");
        for copy in 0..1_000 {
            let metric = format!("measure_{copy}");
            let named = |one: &Difference| Difference { metric: metric.clone(), ..one.clone() };
            evaluation.comparisons.differences.extend(differences.clone().map(named));
        }
        evaluation
    };
    run.evaluations = (0..5).map(seed).collect();
    run
}

#[test]
fn of_many_evaluations_one_is_shown_in_full_and_its_long_tables_are_packed() {
    let text = page(&many(), None);
    assert!(text.len() < 3_000_000, "{} bytes", text.len());
    let first = "Results of evaluation[seed=0]";
    assert!(text.contains(first) && !text.contains("Results of evaluation[seed=1]"));
    let others = "not shown in full: evaluation[seed=1], evaluation[seed=2], evaluation[seed=3], \
        evaluation[seed=4].";
    assert!(text.contains(others));
    assert!(text.contains("--evaluations 'evaluation[seed=1]'"));
    let three = Run { evaluations: many().evaluations[..3].to_vec(), ..many() };
    let whole = page(&three, Some(0));
    assert!(whole.contains("Results of evaluation[seed=2]") && !whole.contains("id=not-shown"));
    // Of five evaluations ten findings are shown, and the rest unfolds.
    let findings = |page: &str| {
        let (_, rest) = page.split_once("<section id=findings").unwrap();
        rest.split_once("</section>").unwrap().0.to_owned()
    };
    let (first, rest) =
        findings(&text).split_once("<details>").map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    assert_eq!(first.matches("<li>").count(), 10);
    let count = rest.matches("<li>").count();
    assert!(count > 0 && rest.contains(&format!("<summary>{count} more</summary>")));
    assert!(first.contains("evaluation[seed=4]: "));
    // Where there are figures over seeds, single seeds are left to them.
    let with_seeds = findings(&page(&run(), Some(0)));
    assert!(with_seeds.contains("<li>gold, id: ") && !with_seeds.contains("<li>evaluation: "));

    let Some(program) = program() else {
        skip("headless Chromium");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.html");
    std::fs::write(&path, &text).unwrap();
    let mut browser = Browser::start(&program);
    open(&mut browser, &path, 1280, 900, "light");
    assert!(text.contains("data-packed"));
    assert_eq!(browser.value("document.querySelectorAll('[data-packed]').length"), json!(0));
    let listings = "document.querySelectorAll('#significance [data-metric^=measure_]').length";
    assert_eq!(browser.value(listings), json!(1_000));
    // What was unpacked is filtered like the rest.
    let shown = "[...document.querySelectorAll('#significance [data-metric]')]\
        .filter((listing) => !listing.hidden && listing.offsetParent).map((listing) => \
        listing.dataset.metric).join()";
    assert!(!browser.value(shown).as_str().unwrap().contains("measure_"));
    assert_eq!(browser.complaints, Vec::<String>::new());
}
