//! Forced decoding: what a model would write at each place of a text that is
//! given, to hold a model in fewer bits against the same in more.

use crate::Result;
use crate::backend::Backend;
use crate::models::lm::{Decoder, Pass};

/// Rows whose logits are read at once.
const PIECE: usize = 64;

/// The likeliest token after each of a text's tokens.
///
/// # Errors
/// Where the text is too long or the device fails.
pub async fn likeliest_after<B: Backend, D: Decoder<B>>(
    decoder: &D,
    text: &[u32],
) -> Result<Vec<u32>> {
    let lm = decoder.lm();
    let pass = Pass::whole(lm.backend(), text.len(), &[0])?;
    let x = decoder.forward(text, &pass, None)?;
    let mut likeliest = Vec::with_capacity(text.len());
    for start in (0..text.len()).step_by(PIECE) {
        let rows = PIECE.min(text.len() - start);
        let logits = lm.logits(&x.narrow(start, rows)?)?.read().await?;
        for row in logits.chunks_exact(lm.config().vocab_size) {
            let best = (0..row.len()).reduce(|best, i| if row[i] > row[best] { i } else { best });
            likeliest.push(best.unwrap_or(0) as u32);
        }
    }
    Ok(likeliest)
}

/// How often two models would write the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Agreement {
    /// Places that were compared.
    pub tokens: usize,
    /// Those where the likeliest token is the same.
    pub same: usize,
}

impl Agreement {
    /// Counts the places from `from` on.
    pub fn count(&mut self, ours: &[u32], theirs: &[u32], from: usize) {
        let pairs = || ours.iter().zip(theirs).skip(from);
        self.tokens += pairs().count();
        self.same += pairs().filter(|(a, b)| a == b).count();
    }

    /// In percent.
    pub fn percent(&self) -> f64 {
        100.0 * self.same as f64 / self.tokens.max(1) as f64
    }
}
