//! Names of methods that differ along axes of a sweep: `ppo[kl=0.02,seed=1]`, as nodes are named.

/// The name without its point: `ppo`.
pub fn family(name: &str) -> &str {
    split(name).map_or(name, |(family, _)| family)
}

/// The point, each axis with its value; nothing of a name without one. A value may hold commas.
pub fn point(name: &str) -> Vec<(&str, &str)> {
    let Some((_, inside)) = split(name) else { return Vec::new() };
    let (mut found, mut rest) = (Vec::new(), inside);
    while let Some((axis, after)) = rest.split_once('=') {
        // The next axis is behind the last comma before the next equals sign.
        let end = after.split_once('=').and_then(|(value, _)| value.rfind(','));
        let (value, next) = end.map_or((after, ""), |at| (&after[..at], &after[at + 1..]));
        found.push((axis, value));
        rest = next;
    }
    found
}

fn split(name: &str) -> Option<(&str, &str)> {
    name.strip_suffix(']')?.split_once('[').filter(|(_, inside)| inside.contains('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(family("ppo[kl=0.02]"), "ppo");
        assert_eq!(point("ppo[kl=0.02,seed=1]"), [("kl", "0.02"), ("seed", "1")]);
        assert_eq!(point("a[words=x, y,seed=1]"), [("words", "x, y"), ("seed", "1")]);
        for plain in ["ppo", "ppo[", "ppo[1]", "ppo]"] {
            assert_eq!((family(plain), point(plain)), (plain, Vec::new()));
        }
    }
}
