//! Files of rows that are read as streams, CSV and TSV, numbers to the last digit, all bad rows at
//! once, and where a row was read.

use std::io::Write;
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use posttrain::data::rows::{Rows, called};
use posttrain::error::{Kind, kind_of};
use posttrain::tokenizer::chat::{ChatTemplate, Message};
use serde_json::{Value, json};

use super::{bytes, read};

fn pairs(file: &[u8], options: Value) -> Vec<(String, String)> {
    let (_folder, path) = bytes(file);
    match read(&path, options).unwrap().0 {
        Rows::Examples(rows) => rows.into_iter().map(|row| (row.prompt, row.completion)).collect(),
        other => panic!("{other:?}"),
    }
}

fn complaint(file: &[u8], options: Value) -> String {
    let (_folder, path) = bytes(file);
    let error = read(&path, options).unwrap_err();
    assert_eq!(kind_of(&error), Kind::User, "{error:#}");
    format!("{error:#}")
}

fn owned<const N: usize>(pairs: [(&str, &str); N]) -> Vec<(String, String)> {
    pairs.map(|(prompt, completion)| (prompt.to_owned(), completion.to_owned())).into()
}

#[test]
fn numbers_are_filled_in_to_the_last_digit() {
    let numbers = [
        "12345678901234567890123",
        "-80241446968629135069",
        "18446744073709551615",
        "123456789012345678901234567890123456789",
        "0.10",
        "1e400",
    ];
    let rows: String =
        numbers.iter().map(|number| format!("{{\"q\": \"a\", \"n\": {number}}}\n")).collect();
    let options = json!({"prompt": "{q}", "completion": "{n}"});
    let found: Vec<String> = pairs(rows.as_bytes(), options.clone())
        .into_iter()
        .map(|(_, completion)| completion)
        .collect();
    assert_eq!(found, numbers);
    let mut one = options;
    one["keep"] = json!([{"column": "n", "equals": numbers[0]}]);
    assert_eq!(pairs(rows.as_bytes(), one).len(), 1);
}

#[test]
fn csv_and_tsv_are_rows_of_texts_with_a_header() {
    let expected = owned([("a, \"b\"\nc", "1"), ("é", " 2.0")]);
    let options = || json!({"prompt": "{q}", "completion": "{n}"});
    assert_eq!(
        pairs("\u{feff}q,n\r\n\"a, \"\"b\"\"\nc\",1\r\n\r\né, 2.0".as_bytes(), options()),
        expected
    );
    assert_eq!(pairs("q\tn\n\"a, \"\"b\"\"\nc\"\t1\né\t 2.0\n".as_bytes(), options()), expected);
    assert_eq!(pairs(b"prompt,completion\na,b\n", json!({})), owned([("a", "b")]));
    assert_eq!(
        pairs(b"text\none\n\"two, three\"\n", json!({})),
        owned([("", "one"), ("", "two, three")])
    );
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(b"q,n\na,b\n").unwrap();
    assert_eq!(pairs(&packed.finish().unwrap(), options()), owned([("a", "b")]));
    let bad = complaint(b"q,n\na\nb,c\nd,e,f\n\xff,g\n", options());
    assert!(bad.contains("row 1: it has 1 values, the header has 2 columns"), "{bad}");
    assert!(
        bad.contains("row 3: it has 3 values") && bad.contains("row 4: the text is not UTF-8"),
        "{bad}"
    );
    assert!(
        complaint(b"q,n\na,b\nc,\"d\ne,f\n", options())
            .contains("as CSV: a quote that opens in row 2 is never closed")
    );
    assert!(complaint(b"q,q\na,b\n", options()).contains("the header has the column `q` twice"));
    assert!(complaint(b"q,\na,b\n", options()).contains("column 2 has no name"));
    assert!(
        complaint(b"q,n\na,b\n", json!({"prompt": "{p}", "completion": "{n}"}))
            .contains("the columns are: q, n")
    );
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    assert!(
        complaint(pointer, json!({})).contains("is a pointer of Git LFS")
            && complaint(pointer, json!({})).contains("git lfs pull")
    );
    // What cannot be a header is JSONL that is broken.
    assert!(
        complaint(b"\"a text\"\n", options()).contains("row 1: expected an object, found a text")
    );
    assert!(complaint(b"{'q': 1, 'n': 2}\n", options()).contains("row 1: broken JSON"));
}

#[test]
fn the_first_ten_bad_rows_are_named_at_once_and_counted() {
    let rows: String =
        (0..30)
            .map(|at| {
                if at % 2 == 0 { "{\"q\": 1}\n".to_owned() } else { format!("{{\"q\": [{at}]}}\n") }
            })
            .collect();
    let message = complaint(rows.as_bytes(), json!({"prompt": "{q}", "completion": "{q}"}));
    assert!(
        message.contains(
            "rows.jsonl, row 2: the column `q` holds a list, not text\n  rows.jsonl, row 4: the \
             same\n"
        ),
        "{message}"
    );
    assert!(
        message
            .contains("row 20: the same\n  15 of 30 rows are bad, of which the first 10 are named"),
        "{message}"
    );
    assert!(
        message.contains("`on_bad_row: skip` leaves bad rows out") && !message.contains("row 22"),
        "{message}"
    );
    let twice = complaint(
        b"{\"q\": \"a\", \"n\": 1, \"q\": \"b\"}\n",
        json!({"prompt": "{q}", "completion": "{n}"}),
    );
    assert!(twice.contains("row 1: the key `q` is given twice"), "{twice}");
}

#[test]
fn a_row_knows_where_it_was_read_where_its_id_does_not_say_so() {
    let (folder, path) = bytes(b"{\"id\": \"x\", \"q\": \"a\"}\n\n{\"id\": \"y\", \"q\": \"b\"}\n");
    let origins = |path: &std::path::Path, more: Value| {
        let mut options = json!({"prompt": "{q}", "completion": "{q}"});
        options.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let rows = read(path, options).unwrap().0.texts();
        rows.iter().map(|row| called(&row.id, row.origin.as_ref())).collect::<Vec<_>>()
    };
    assert_eq!(origins(&path, json!({})), ["row 1", "row 3"]);
    assert_eq!(
        origins(&path, json!({"id": "id"})),
        ["row 1 of its file (`x`)", "row 3 of its file (`y`)"]
    );
    std::fs::write(folder.path().join("s.jsonl"), "{\"q\": \"c\"}\n").unwrap();
    assert_eq!(origins(folder.path(), json!({}))[2], "row 1 of s.jsonl (`4`)");
}

#[test]
fn no_more_of_a_file_is_read_than_a_limit_takes() {
    let good = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    let options = json!({"limit": 2});
    let broken = [good, good, "{\n"].concat();
    for file in [
        broken.clone(),
        format!("[{},{}, {{", good.trim(), good.trim()),
        "prompt,completion\na,b\na,b\n\"".to_owned(),
    ] {
        assert_eq!(
            pairs(file.as_bytes(), options.clone()),
            owned([("a", "b"), ("a", "b")]),
            "{file}"
        );
    }
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(good.repeat(50_000).as_bytes()).unwrap();
    let whole = packed.finish().unwrap();
    assert_eq!(pairs(&whole[..whole.len() - 9], options).len(), 2);
    assert!(complaint(&whole[..whole.len() - 9], json!({})).contains("cannot be read as gzip"));
    // In a random order every row counts.
    assert!(
        complaint(broken.as_bytes(), json!({"limit": 2, "shuffle": 1}))
            .contains("row 3: broken JSON")
    );
}

#[test]
fn a_file_that_unpacks_to_far_more_and_a_row_without_end_are_refused() {
    let row = format!("{{\"prompt\": \"{}\", \"completion\": \"b\"}}\n", "a".repeat(1 << 20));
    let mut packed = GzEncoder::new(Vec::new(), Compression::default());
    packed.write_all(row.as_bytes()).unwrap();
    let member = packed.finish().unwrap();
    let bomb = member.repeat(70);
    assert_eq!(pairs(&bomb, json!({"limit": 1})).len(), 1);
    let message = complaint(&bomb, json!({}));
    assert!(
        message.contains("unpacks to more than 67108864 bytes")
            && message.contains("POSTTRAIN_MAX_UNPACKED_BYTES"),
        "{message}"
    );
    let list = [b"[".as_slice(), &member].concat();
    assert!(complaint(&list, json!({})).contains("cannot be read as a JSON list of rows"));
    for endless in [b"{\"a\": \"".to_vec(), b"a,b\n\"".to_vec()] {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&endless).unwrap();
        (0..65).for_each(|_| packed.write_all(&[b'a'; 1 << 20]).unwrap());
        // Incompressible bytes, so that it is the row that is too long.
        let mut noise = vec![0; 6 << 20];
        blake3::Hasher::new().finalize_xof().fill(&mut noise);
        noise.iter_mut().for_each(|byte| *byte = 48 + (*byte & 63));
        packed.write_all(&noise).unwrap();
        let message = complaint(&packed.finish().unwrap(), json!({}));
        assert!(
            message.contains("row 1: the row has more than 67108864 bytes")
                && message.contains("POSTTRAIN_MAX_ROW_BYTES"),
            "{message}"
        );
    }
}

/// Marks the process that has little memory.
const CHILD: &str = "POSTTRAIN_TEST_WITH_LITTLE_MEMORY";

#[test]
fn a_template_that_would_go_on_is_stopped_within_500_mb() {
    if std::env::var_os(CHILD).is_some() {
        return templates_are_stopped();
    }
    let name = "data::bounds::a_template_that_would_go_on_is_stopped_within_500_mb";
    let mut child = Command::new("sh");
    child
        .args(["-c", "ulimit -v 500000; exec \"$0\" \"$@\""])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name]);
    let output = child.env(CHILD, "1").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn templates_are_stopped() {
    let render = |source: &str| {
        let template = ChatTemplate::new(source, Default::default(), "a test".into())?;
        template.render(&[Message::new("user", "hi")], false)
    };
    let straight = |steps: usize| {
        (0..steps).map(|at| format!("{{% set a{} = [a{at}, a{at}] %}}", at + 1)).collect::<String>()
    };
    let doubled = "{% set ns = namespace(x=['a', 'b']) %}{% for i in range(60) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    for endless in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}{% endfor %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
        "{% set ns = namespace(x='aa') %}{% for i in range(60) %}{% set ns.x = ns.x.replace('a', ns.x) %}{% endfor %}",
        "{% set x %}{{ 'a' * 100000 }}{% endset %}{% for i in range(10000) %}{{ x }}{% endfor %}",
        &format!("{doubled}{{{{ ns.x | tojson }}}}"),
        &format!("{doubled}{{{{ ns.x | tojson(sort_keys=true, indent=4) }}}}"),
        &format!("{doubled}{{{{ ns.x }}}}"),
        "{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}",
        &format!("{doubled}{{{{ ns.x ~ '' }}}}"),
        &format!("{doubled}{{{{ (ns.x | string) == (ns.x | upper) }}}}"),
        &format!("{doubled}{{{{ ns.x == ns.x[0] }}}}"),
        &doubled.replace("[ns.x, ns.x]", "{'a': ns.x, 'b': ns.x}"),
        &doubled.replace("[ns.x, ns.x]", "ns.x + ns.x"),
        &doubled.replace("[ns.x, ns.x]", "namespace(a=ns.x, b=ns.x)"),
        &format!("{{% set a0 = ['a'] %}}{}{{{{ a40 ~ '' }}}}", straight(40)),
        "{% set ns = namespace(x=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x ~ '' }}",
        "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns ~ '' }}",
        "{% set ns = namespace() %}{% set ns.me = [{'a': ns}] %}{{ ns | string }}",
        "{% set a = namespace() %}{% set b = namespace(a=a) %}{% set a.b = b %}{{ a == b }}",
    ] {
        let error = render(endless).unwrap_err();
        assert_eq!(kind_of(&error), Kind::User, "{error:#}");
        let message = error.to_string();
        let said = [
            "takes more than 1000000 steps for this chat",
            "recursion",
            "nested deeper",
            "a namespace in a namespace",
        ]
        .iter()
        .any(|said| message.contains(said));
        assert!(said, "{endless}: {message}");
    }
    let large = |source: String| render(&source).unwrap_err().to_string();
    let nested =
        |depth: usize| format!("{}{}", "{% if true %}".repeat(depth), "{% endif %}".repeat(depth));
    assert!(large(nested(20_000)).contains("has 40000 tags, more than 5000"));
    assert!(large(nested(2_000)).contains("recursion"));
    assert!(large(" ".repeat(2 << 20)).contains("has 2097152 bytes, more than 1048576"));
    assert!(large(format!("{{{{ 1{} }}}}", "~1".repeat(100_000))).contains("has a tag of"));
    assert!(
        large(format!("{{{{ {}1{} }}}}", "(".repeat(2_000), ")".repeat(2_000)))
            .contains("recursion")
    );
    let wide = format!("{{{{ 1{} }}}}", "~1".repeat(2_000));
    assert_eq!(render(&wide).unwrap().text, "1".repeat(2_001));
}
