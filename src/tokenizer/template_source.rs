//! The source of a chat template: its size, and what is rewritten in it before it is compiled.
//!
//! 1. `{% generation %}…{% endgeneration %}`, which Jinja does not have, becomes a filter block.
//! 2. What `set` keeps passes through a filter that measures it.

use crate::error::{Result, user};
use crate::limits::{self, TEMPLATE_BYTES, TEMPLATE_TAGS};

/// The filter of generation parts: no template has a filter of this name.
pub(super) const GENERATION: &str = "__generation__";
/// The filter of what `set` keeps: no template has a filter of this name.
pub(super) const KEPT: &str = "__kept__";
/// Bytes of a tag outside texts at most: expressions are compiled by recursion.
const TAG_BYTES: usize = 4096;

/// Refuses a template that is too large to be compiled in good time.
pub(super) fn check_size(source: &str, place: &str) -> Result<()> {
    let too = |count: u64, limit: &limits::Limit, what: &str| -> Result<()> {
        match limit.value()? {
            most if count > most => Err(user(format!(
                "the chat template ({place}) has {count} {what}, more than {most}"
            ))
            .hint(limit.hint())
            .into()),
            _ => Ok(()),
        }
    };
    too(source.len() as u64, &TEMPLATE_BYTES, "bytes")?;
    let (tags, longest) = size(source);
    too(tags as u64, &TEMPLATE_TAGS, "tags")?;
    if longest > TAG_BYTES {
        let message = format!(
            "the chat template ({place}) has a tag of {longest} bytes outside texts, more than \
             {TAG_BYTES}"
        );
        return Err(user(message).hint("break the expression up with `set`").into());
    }
    Ok(())
}

/// A template's source in which what `set` keeps is measured. Lines stay what they are.
pub(super) fn with_measured_sets(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    each_part(source, &mut |part, is_tag| match assigned(part).filter(|_| is_tag) {
        Some((value, in_namespace)) => {
            let end = part.len() - closing(part).len();
            let flag = if in_namespace { "(true)" } else { "" };
            text.push_str(&format!(
                "{}({})|{KEPT}{flag} {}",
                &part[..value],
                &part[value..end],
                closing(part)
            ));
        }
        None => text.push_str(part),
    });
    text
}

/// Where the value of a tag begins that sets one, and whether it becomes a field of a namespace.
fn assigned(tag: &str) -> Option<(usize, bool)> {
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    let rest = inner.strip_prefix(['-', '+']).unwrap_or(inner).trim_start().strip_prefix("set")?;
    let (target, value) = rest.split_once('=')?;
    let named = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.,()".contains(c);
    let sets = target.starts_with(char::is_whitespace)
        && !target.trim().is_empty()
        && target.chars().all(named)
        && !value.starts_with('=');
    sets.then(|| (tag.len() - "%}".len() - value.len(), target.contains('.')))
}

/// A template's source with every generation tag replaced, and whether there was one. Tags in
/// comments, raw blocks and strings stay.
pub(super) fn without_generation_tags(source: &str) -> (String, bool) {
    let (mut text, mut found) = (String::with_capacity(source.len()), false);
    each_part(source, &mut |part, is_tag| match block_name(part).filter(|_| is_tag) {
        Some("generation") => {
            found = true;
            text.push_str(&format!(
                "{} filter {GENERATION} %}}{{% with {}",
                opening(part),
                closing(part)
            ));
        }
        Some("endgeneration") => {
            text.push_str(&format!("{} endwith %}}{{% endfilter {}", opening(part), closing(part)))
        }
        _ => text.push_str(part),
    });
    (text, found)
}

/// How many tags a template has, and the bytes outside texts of the one that has most: what
/// compiling it costs.
fn size(source: &str) -> (usize, usize) {
    let (mut tags, mut longest) = (0, 0);
    each_part(source, &mut |part, is_tag| {
        if is_tag {
            (tags, longest) = (tags + 1, longest.max(unquoted(part)));
        }
    });
    (tags, longest)
}

/// Visits the parts of a template in order: tags, and what is between them. Comments and what
/// is in raw blocks are no tags.
fn each_part(source: &str, visit: &mut dyn FnMut(&str, bool)) {
    let mut rest = source;
    // Positions are looked for once a delimiter, not once a tag: a long text without one is passed
    // once.
    while let Some(at) = rest
        .match_indices('{')
        .map(|(at, _)| at)
        .find(|at| matches!(rest.as_bytes().get(at + 1), Some(b'%' | b'{' | b'#')))
    {
        visit(&rest[..at], false);
        rest = &rest[at..];
        if rest.starts_with("{#") {
            let (comment, after) = rest.split_at(rest.find("#}").map_or(rest.len(), |end| end + 2));
            visit(comment, false);
            rest = after;
            continue;
        }
        let (tag, after) = rest.split_at(end_of_tag(rest));
        visit(tag, true);
        rest = after;
        if block_name(tag) == Some("raw") {
            // Up to the tag that closes it, whatever is between.
            let closes = |at: &usize| {
                rest[at + 2..].trim_start_matches(['-', '+']).trim_start().starts_with("endraw")
            };
            let end = rest.match_indices("{%").map(|(at, _)| at).find(closes).unwrap_or(rest.len());
            visit(&rest[..end], false);
            rest = &rest[end..];
        }
    }
    visit(rest, false);
}

/// The bytes of a tag that are in no text.
fn unquoted(tag: &str) -> usize {
    let (mut count, mut quote, mut escaped) = (0, None, false);
    for byte in tag.bytes() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if byte == b'\\' => escaped = true,
            Some(open) if open == byte => quote = None,
            Some(_) => {}
            None => {
                count += 1;
                quote = Some(byte).filter(|byte| matches!(byte, b'"' | b'\''));
            }
        }
    }
    count
}

/// Where the tag that `text` begins with ends: after its `%}` or `}}`, not counting those in
/// strings.
fn end_of_tag(text: &str) -> usize {
    let close = if text.starts_with("{%") { "%}" } else { "}}" };
    let (mut quote, mut escaped) = (None, false);
    for (at, letter) in text.char_indices().skip(2) {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if letter == '\\' => escaped = true,
            Some(open) if open == letter => quote = None,
            Some(_) => {}
            None if text[at..].starts_with(close) => return at + close.len(),
            None if letter == '"' || letter == '\'' => quote = Some(letter),
            None => {}
        }
    }
    text.len()
}

/// The name of a block tag that has nothing beside its name.
fn block_name(tag: &str) -> Option<&str> {
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?;
    Some(inner.strip_prefix(['-', '+']).unwrap_or(inner).trim_end_matches(['-', '+']).trim())
}

/// How a tag begins and ends, with what it says about the space around it.
fn opening(tag: &str) -> &str {
    &tag[..2 + usize::from(tag[2..].starts_with(['-', '+']))]
}

fn closing(tag: &str) -> &str {
    let inner = &tag[..tag.len() - 2];
    &tag[inner.len() - usize::from(inner.ends_with(['-', '+']))..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_are_replaced_where_they_are_tags_and_nowhere_else() {
        let (text, found) = without_generation_tags("a{%- generation -%} b {%+endgeneration +%}c");
        assert_eq!(
            text,
            "a{%- filter __generation__ %}{% with -%} b {%+ endwith %}{% endfilter +%}c"
        );
        assert!(found);
        let untouched = [
            "{# {% generation %} #}{{ '{% generation %}' }}{% if x == \"{% generation %}\" %}{% endif %}",
            "{% raw %}{% generation %}{{ ' }}{% endraw %}",
            "{% raw %}{% generation %}",
            "{{ 'it\\'s {% generation %}' }}",
            "{% generations %} { % generation %} {% generation",
        ];
        for source in untouched {
            assert_eq!(without_generation_tags(source), (source.to_owned(), false));
        }
        assert!(without_generation_tags("{% raw %}{% x %}{% endraw %}{% generation %}").1);
    }
}
