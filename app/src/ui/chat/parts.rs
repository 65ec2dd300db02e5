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

/// The parts with the `nth` picture a word or a picture further, to the front
/// or to the end.
pub(super) fn moved(parts: &[Piece], nth: usize, back: bool) -> Vec<Piece> {
    let mut steps = steps(parts);
    let mut pictures = steps
        .iter()
        .enumerate()
        .filter(|(_, s)| matches!(s, Piece::Media(_)));
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

    use super::{Piece, joined, moved};

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
    fn texts_that_meet_become_one() {
        let parts = [text("a"), text(""), text("b"), Piece::Media(1), text("")];
        assert_eq!(joined(parts), [text("ab"), Piece::Media(1)]);
    }
}
