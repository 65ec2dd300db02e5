//! Parts of a turn: text and pictures in turn.

use crate::protocol::PictureId;
use crate::protocol::chat::Piece;

/// Texts that follow one another as one, none of them empty.
pub(super) fn joined(parts: impl IntoIterator<Item = Piece>) -> Vec<Piece> {
    let mut out = Vec::<Piece>::new();
    for part in parts {
        match (part, out.last_mut()) {
            (Piece::Text(text), _) if text.is_empty() => {}
            (Piece::Text(text), Some(Piece::Text(before))) => before.push_str(&text),
            (part, _) => out.push(part),
        }
    }
    out
}

/// Words, each with the blanks behind it, and pictures: the steps by which a
/// picture moves.
fn steps(parts: &[Piece]) -> Vec<Piece> {
    let mut out = Vec::new();
    for part in parts {
        match part {
            Piece::Media(_) => out.push(part.clone()),
            Piece::Text(text) => {
                let words = text.split_inclusive(char::is_whitespace);
                out.extend(words.map(|word| Piece::Text(word.to_owned())));
            }
        }
    }
    out
}

fn is_picture(part: &Piece) -> bool {
    matches!(part, Piece::Media(_))
}

/// Each letter and each picture by itself.
fn letters(parts: &[Piece]) -> Vec<Piece> {
    let each = |part: &Piece| match part {
        Piece::Media(_) => vec![part.clone()],
        Piece::Text(text) => text.chars().map(|c| Piece::Text(c.into())).collect(),
    };
    parts.iter().flat_map(each).collect()
}

/// How many letters and pictures stand before the `nth` picture.
pub(super) fn before(parts: &[Piece], nth: usize) -> Option<usize> {
    let letters = letters(parts);
    let mut pictures = letters.iter().enumerate().filter(|(_, l)| is_picture(l));
    pictures.nth(nth).map(|(at, _)| at)
}

/// The parts with one more picture, behind so many letters and pictures or at
/// the end.
pub(super) fn with_picture(parts: &[Piece], at: usize, id: PictureId) -> Vec<Piece> {
    let mut letters = letters(parts);
    letters.insert(at.min(letters.len()), Piece::Media(id));
    joined(letters)
}

/// Where the `nth` picture stands, for those who do not see it.
pub(super) fn whereabouts(parts: &[Piece], nth: usize) -> String {
    let mut pictures = parts.iter().enumerate().filter(|(_, p)| is_picture(p));
    let at = pictures.nth(nth).map_or(0, |(at, _)| at);
    if at == 0 {
        return "at the front".to_owned();
    }
    let blank = |part: &Piece| matches!(part, Piece::Text(text) if text.trim().is_empty());
    let behind = parts.get(at + 1..).unwrap_or_default();
    match behind.iter().find(|part| !blank(part)) {
        Some(Piece::Text(text)) => {
            let words: Vec<_> = text.split_whitespace().take(3).collect();
            format!("before “{}”", words.join(" "))
        }
        Some(Piece::Media(_)) => format!("before picture {}", nth + 2),
        None if behind.is_empty() => "at the end".to_owned(),
        None => "before the blank at the end".to_owned(),
    }
}

/// The parts with the `nth` picture a word or a picture further, to the front
/// or to the end.
pub(super) fn moved(parts: &[Piece], nth: usize, back: bool) -> Vec<Piece> {
    let mut steps = steps(parts);
    let mut pictures = steps.iter().enumerate().filter(|(_, s)| is_picture(s));
    let Some(at) = pictures.nth(nth).map(|(at, _)| at) else {
        return parts.to_vec();
    };
    let to = if back {
        at.checked_sub(1)
    } else {
        Some(at + 1)
    };
    if let Some(to) = to.filter(|&to| to < steps.len()) {
        steps.swap(at, to);
    }
    joined(steps)
}

/// How many pictures stand before the one that was the `nth` and has moved.
pub(super) fn place(parts: &[Piece], id: PictureId, near: usize) -> usize {
    let media = super::store::media_of(parts);
    let places = media.iter().enumerate().filter(|(_, other)| **other == id);
    places
        .map(|(at, _)| at)
        .min_by_key(|at| at.abs_diff(near))
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::{Piece, before, joined, moved, whereabouts, with_picture};

    fn text(words: &str) -> Piece {
        Piece::Text(words.to_owned())
    }

    #[wasm_bindgen_test]
    fn a_picture_moves_by_words_and_pictures() {
        let parts = [Piece::Media(1), text("is it red"), Piece::Media(2)];
        let once = moved(&parts, 0, false);
        assert_eq!(
            once,
            [
                text("is "),
                Piece::Media(1),
                text("it red"),
                Piece::Media(2)
            ]
        );
        assert_eq!(moved(&once, 0, true), parts);
        assert_eq!(moved(&parts, 0, true), parts);
        let two = [Piece::Media(1), Piece::Media(2)];
        assert_eq!(moved(&two, 1, true), [Piece::Media(2), Piece::Media(1)]);
        assert_eq!(moved(&two, 1, false), two);
        assert_eq!(moved(&two, 5, false), two);
    }

    #[wasm_bindgen_test]
    fn a_picture_goes_out_and_back_to_its_place() {
        let parts = [text("wörter "), Piece::Media(1), text("a"), Piece::Media(2)];
        assert_eq!(before(&parts, 1), Some(9));
        assert_eq!(before(&parts, 2), None);
        let without = [text("wörter a"), Piece::Media(2)];
        assert_eq!(before(&parts, 0), Some(7));
        assert_eq!(with_picture(&without, 7, 1), parts);
        // What was written since may be shorter.
        let end = [text("w"), Piece::Media(1)];
        assert_eq!(with_picture(&[text("w")], 7, 1), end);
    }

    #[wasm_bindgen_test]
    fn the_place_of_a_picture_is_told() {
        let parts = [
            Piece::Media(1),
            text("what is left of "),
            Piece::Media(2),
            text(" "),
            Piece::Media(3),
        ];
        assert_eq!(whereabouts(&parts, 0), "at the front");
        assert_eq!(whereabouts(&parts, 1), "before picture 3");
        assert_eq!(whereabouts(&parts, 2), "at the end");
        let among = moved(&parts, 0, false);
        assert_eq!(whereabouts(&among, 0), "before “is left of”");
        let last = [text("w "), Piece::Media(1), text("\n")];
        assert_eq!(whereabouts(&last, 0), "before the blank at the end");
    }

    #[wasm_bindgen_test]
    fn texts_that_meet_become_one() {
        let parts = [text("a"), text(""), text("b"), Piece::Media(1), text("")];
        assert_eq!(joined(parts), [text("ab"), Piece::Media(1)]);
    }
}
