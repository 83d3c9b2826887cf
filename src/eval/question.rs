//! The text of a question: a template in whose places texts are put. Knows no question.

/// A template with a text in each place, without space at both ends of the text. What looks like a
/// place in a text is left as it is. `texts` are places, such as `{prompt}`, with their texts.
pub fn fill(template: &str, texts: &[(&str, &str)]) -> String {
    let length = texts.iter().map(|(_, text)| text.len()).sum::<usize>();
    let (mut filled, mut rest) = (String::with_capacity(template.len() + length), template);
    let first = |rest: &str| {
        let found =
            texts.iter().filter_map(|(place, text)| Some((rest.find(place)?, *place, *text)));
        found.min()
    };
    while let Some((at, place, text)) = first(rest) {
        filled.push_str(&rest[..at]);
        filled.push_str(text.trim());
        rest = &rest[at + place.len()..];
    }
    filled + rest
}

/// Those of `places` that a template must have and has not.
pub fn missing_places(template: &str, places: &[&'static str]) -> Vec<&'static str> {
    places.iter().copied().filter(|place| !template.contains(place)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_fill_their_places_once_whatever_they_contain() {
        let texts = [("{prompt}", "p {second}"), ("{first}", " {first} "), ("{second}", "s{")];
        assert_eq!(
            fill("{first}|{prompt}|{second}|{first}", &texts),
            "{first}|p {second}|s{|{first}"
        );
        assert_eq!(fill("none", &texts), "none");
        assert_eq!(fill("{prompt}", &[]), "{prompt}");
        assert_eq!(missing_places("{first} {prompt}", &["{prompt}", "{second}"]), ["{second}"]);
    }
}
