//! Cuts an input that breaks something down to one that is easier to read and breaks the same.

/// However large it is, cutting it down is worth so many tries.
const TRIES: usize = 4_000;

/// `breaks` says what an input breaks. Returns the last that does, and what that says.
pub(super) fn of(mut input: Vec<u8>, mut why: String, mut breaks: impl FnMut(&[u8]) -> Option<String>) -> (String, Vec<u8>) {
    let what = kind(&why);
    let mut tries = 0;
    let mut size = input.len().div_ceil(2);
    while size > 0 && tries < TRIES {
        let mut at = 0;
        let mut cut = false;
        while at < input.len() && tries < TRIES {
            let mut shorter = input.clone();
            shorter.drain(at..(at + size).min(input.len()));
            tries += 1;
            match breaks(&shorter) {
                Some(said) if kind(&said) == what => {
                    (input, why, cut) = (shorter, said, true);
                }
                _ => at += size,
            }
        }
        // At the end, as long as there is anything to be cut.
        if size > 1 || !cut {
            size /= 2;
        }
    }
    for at in 0..input.len() {
        if tries >= TRIES || input[at] == 0 {
            continue;
        }
        let mut plainer = input.clone();
        plainer[at] = 0;
        tries += 1;
        if let Some(said) = breaks(&plainer).filter(|said| kind(said) == what) {
            (input, why) = (plainer, said);
        }
    }
    (why, input)
}

/// What is the same about two findings: the place of a panic, or the words of a broken promise, without numbers.
fn kind(why: &str) -> String {
    let place = if why.starts_with("it panics at ") { why.split(": ").next().unwrap_or(why) } else { "" };
    if place.is_empty() { why.chars().filter(|c| !c.is_ascii_digit()).take(40).collect() } else { place.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_is_cut_off() {
        let breaks = |input: &[u8]| (input.contains(&7) && input.contains(&9)).then(|| format!("it holds {} bytes", input.len()));
        let input: Vec<u8> = (0..=255).collect();
        assert_eq!(of(input, "it holds 256 bytes".to_owned(), breaks), ("it holds 2 bytes".to_owned(), vec![7, 9]));
    }

    #[test]
    fn another_fault_is_not_taken_for_the_same() {
        let breaks = |input: &[u8]| match input.len() {
            0..=3 => Some("it panics at b.rs:1:1: no".to_owned()),
            _ => Some(format!("it panics at a.rs:1:1: {}", input.len())),
        };
        let (why, input) = of(vec![1; 64], "it panics at a.rs:1:1: 64".to_owned(), breaks);
        assert_eq!((why.as_str(), input), ("it panics at a.rs:1:1: 4", vec![0; 4]));
    }
}
