//! How good what a model says is, as the benchmarks of the papers measure it
//! (Flamingo App. B, Table 6). All of them are functions of what was said.

mod cider;
mod ranking;
mod vqa;

pub use cider::{caption_words, cider_d, said_caption};
pub use ranking::{Winoground, macro_mean, roc_auc, top_1, winoground};
pub use vqa::{normalize_answer, said_answer, vqa_accuracy};
