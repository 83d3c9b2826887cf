//! The page on which people judge (HTML): one file that needs nothing but a browser, shows two
//! sides at a time without saying whose they are, keeps what was chosen, and saves a sheet.

use super::sheet::order;
use super::study::{Assignment, Question, Shown};

/// The page, with places for what is asked.
const PAGE: &str = include_str!("sheet.html");
/// The place of the items.
const ITEMS: &str = "/*ITEMS*/[]";
/// The place of what they are.
const STUDY: &str = "/*STUDY*/{}";

/// The page of one person.
pub fn page(assignment: &Assignment<'_>) -> String {
    let item = |shown: &Shown<'_>| {
        let (split, id, prompt) = (&shown.item.split, &shown.item.id, shown.item.prompt.trim());
        let [first, second] = [&shown.first, &shown.second]
            .map(|set| set.iter().map(|text| text.trim()).collect::<Vec<&str>>());
        serde_json::json!({"split": split, "id": id, "order": order(shown), "prompt": prompt,
            "question": shown.item.question.name(), "key": shown.item.key(),
            "first": first, "second": second})
    };
    let items = serde_json::Value::Array(assignment.shown.iter().map(item).collect()).to_string();
    let varied = assignment.shown.iter().any(|one| one.item.question == Question::MoreVaried);
    let study =
        serde_json::json!({"annotator": assignment.annotator, "varied": varied}).to_string();
    let name = blake3::hash(format!("{study}{items}").as_bytes()).to_hex();
    // No script but the page's own runs, and nothing is fetched.
    let page = PAGE.replace("/*NONCE*/", &name[..32]).replacen("/*NAME*/", &name[..16], 1);
    page.replacen(STUDY, &safe(&study), 1).replacen(ITEMS, &safe(&items), 1)
}

/// JSON for a script: no text may end it, nor begin a comment that hides its end; U+2028 and U+2029
/// end lines in older engines.
fn safe(json: &str) -> String {
    let safe = json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026");
    safe.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::super::study::{Item, for_one};
    use super::*;

    fn page_of(text: &str) -> String {
        let item = Item {
            question: Question::Better,
            split: "test/x".into(),
            id: "1".into(),
            prompt: "p".into(),
            a: vec![text.into()],
            b: vec!["b".into()],
        };
        page(&for_one(&[item], 0))
    }

    #[test]
    fn the_page_lets_no_script_but_its_own_run_and_fetches_nothing() {
        let page = page_of("</script><script>alert(1)</script><img src=x onerror=alert(1)>");
        let policy = page
            .split("http-equiv=\"Content-Security-Policy\" content=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next());
        let nonce = page
            .split("<script nonce=\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .expect("the script has a nonce");
        assert!(nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit()), "{nonce}");
        assert_eq!(
            policy,
            Some(&*format!(
                "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'"
            ))
        );
        assert_eq!(
            (
                page.matches("<script").count(),
                page.matches(&format!("<style nonce=\"{nonce}\">")).count()
            ),
            (1, 1)
        );
        assert!(!page.contains("/*NONCE*/") && !page.contains("onerror=alert(1)>"));
    }

    #[test]
    fn no_text_gets_out_of_the_script() {
        let page = page_of("</script><!-- & \u{2028} /*ITEMS*/[] /*STUDY*/{}");
        assert_eq!(page.matches("</script").count(), 1);
        assert!(!page.contains("<!-- &") && page.contains("\\u003c/script"));
    }
}
