//! A Rust file as text: without comments, without the content of literals, without its unit tests.
//! Parses no syntax beyond that.

/// A Rust file.
pub struct File {
    /// Below the root of the project: `src/dag/key.rs`.
    pub path: String,
    /// The text of the file.
    pub text: String,
    /// Without comments and unit tests; lines keep their numbers.
    pub literal: String,
    /// Without the content of texts and characters, either.
    pub code: String,
}

impl File {
    /// Takes a text apart.
    pub fn new(path: &str, text: String) -> File {
        let (literal, code) = strip(&text);
        let tests = tests(&code);
        let keep = |stripped: Vec<u8>| {
            let at = |(at, byte): (usize, u8)| {
                if byte != b'\n' && tests.iter().any(|tests| tests.contains(&at)) {
                    b' '
                } else {
                    byte
                }
            };
            String::from_utf8(stripped.into_iter().enumerate().map(at).collect())
                .expect("whole characters are blanked")
        };
        File { path: path.to_owned(), literal: keep(literal), code: keep(code), text }
    }

    /// Its place in the module tree: `["dag", "key"]`.
    pub fn module(&self) -> Vec<&str> {
        let path = self
            .path
            .strip_prefix("src/")
            .expect("a file of the library")
            .strip_suffix(".rs")
            .expect("a Rust file");
        // The modules of the lowest crate have no common name.
        let path = path.strip_prefix("base/").unwrap_or(path);
        let mut module: Vec<&str> = path.split('/').collect();
        if matches!(module.last(), Some(&("mod" | "lib" | "main"))) {
            module.pop();
        }
        module
    }

    /// Whether it is one of these files or in one of these folders; a folder ends in `/`.
    pub fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            if place.ends_with('/') { self.path.starts_with(place) } else { self.path == *place }
        })
    }

    /// `path:line` of a byte.
    pub fn place(&self, at: usize) -> String {
        format!(
            "{}:{}",
            self.path,
            1 + self.text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count()
        )
    }
}

/// The offsets of a word in a text, as a whole word: neither preceded nor followed by more of a
/// name, where it begins and ends with one.
pub fn word<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let is_name =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    text.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let (bytes, ends) = (text.as_bytes(), word.as_bytes());
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        let goes_on = is_name(ends.last()) && is_name(bytes.get(at + word.len()));
        !(goes_on || is_name(ends.first()) && is_name(before))
    })
}

/// The text with comments blanked, and with the content of literals blanked as well; both as long
/// as the text.
pub fn strip(text: &str) -> (Vec<u8>, Vec<u8>) {
    let bytes = text.as_bytes();
    let (mut literal, mut code) = (bytes.to_vec(), bytes.to_vec());
    let blank = |out: &mut [u8]| {
        out.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ')
    };
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let after_name = at > 0 && (bytes[at - 1].is_ascii_alphanumeric() || bytes[at - 1] == b'_');
        let length = if rest.starts_with(b"//") {
            find(rest, b"\n").unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            find(rest, b"*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw(rest).filter(|_| !after_name) {
            let open = find(rest, b"\"").expect("it begins a raw text") + 1;
            let close: Vec<u8> = [b"\"", &*vec![b'#'; hashes]].concat();
            let end = open + find(&rest[open..], &close).unwrap_or(rest.len() - open);
            blank(&mut code[at + open..at + end]);
            at += end + close.len();
            continue;
        } else if rest[0] == b'"' {
            let end = closing(rest, b'"');
            blank(&mut code[at + 1..at + end]);
            at += end + 1;
            continue;
        } else if rest[0] == b'\'' && is_character(rest) {
            let end = closing(rest, b'\'');
            blank(&mut code[at + 1..at + end]);
            at += end + 1;
            continue;
        } else {
            at += 1;
            continue;
        };
        blank(&mut literal[at..at + length]);
        blank(&mut code[at..at + length]);
        at += length;
    }
    (literal, code)
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Hashes of the raw text that begins here, if one does.
fn raw(rest: &[u8]) -> Option<usize> {
    let rest = rest.strip_prefix(b"b").unwrap_or(rest).strip_prefix(b"r")?;
    let hashes = rest.iter().take_while(|byte| **byte == b'#').count();
    (rest.get(hashes) == Some(&b'"')).then_some(hashes)
}

/// A character rather than a lifetime: an escape, or a quote after one character.
fn is_character(rest: &[u8]) -> bool {
    let text = String::from_utf8_lossy(&rest[1..rest.len().min(6)]);
    text.starts_with('\\') || text.chars().nth(1) == Some('\'')
}

/// Where the literal that begins here ends.
fn closing(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    at.min(rest.len() - 1)
}

/// The ranges of the unit tests: modules and functions behind `#[cfg(test)]`.
fn tests(code: &[u8]) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let mut from = 0;
    while let Some(start) = find(&code[from..], b"#[cfg(test)]").map(|at| from + at) {
        let open = start
            + code[start..]
                .iter()
                .position(|byte| matches!(byte, b'{' | b';'))
                .expect("an item follows");
        let end = if code[open] == b'{' { block_end(code, open) } else { open + 1 };
        ranges.push(start..end);
        from = end;
    }
    ranges
}

/// Just behind the brace that closes the one at `open`.
pub fn block_end(code: &[u8], open: usize) -> usize {
    let mut depth = 0;
    for (at, byte) in code.iter().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    code.len()
}

#[test]
fn comments_texts_and_tests_are_told_from_code() {
    let text = concat!(
        "//! a // b\n",
        "fn f<'a>(x: &'a str) \
         { g(\"p // \\\" q\", 'c', '\\'', '\"'); /* h\n */ k(r#\"x\"y\"#, br\"z\") }\n",
        "#[cfg(test)]\nmod tests { fn t() { \"}\"; u } }\nfn v() {}\n",
    );
    let file = File::new("src/a/mod.rs", text.into());
    assert_eq!(
        file.literal,
        concat!(
            "          \n",
            "fn f<'a>(x: &'a str) \
             { g(\"p // \\\" q\", 'c', '\\'', '\"');     \n    k(r#\"x\"y\"#, br\"z\") }\n",
            "            \n                               \nfn v() {}\n",
        )
    );
    assert_eq!(
        file.code.lines().nth(1).unwrap().trim_end(),
        "fn f<'a>(x: &'a str) { g(\"         \", ' ', '  ', ' ');"
    );
    assert!(file.code.contains("k(r#\"   \"#, br\" \")"), "{}", file.code);
    assert_eq!(
        (file.module(), file.place(text.find("fn v").unwrap())),
        (vec!["a"], "src/a/mod.rs:6".into())
    );
}

#[test]
fn words_are_whole() {
    assert_eq!(word("std::fs::x my_std::fs std::fsx", "std::fs").collect::<Vec<_>>(), [0]);
    assert_eq!(word("println!(eprintln!(", "println!").collect::<Vec<_>>(), [0]);
}
