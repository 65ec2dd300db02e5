//! The prompt: shots, the turns so far, and what is to be answered, in the
//! words of the checkpoint.

use std::collections::BTreeMap;

use leptos::prelude::*;

use super::answer::candidates;
use super::client;
use super::store::{Chat, Id, Mode, Plan, Shot, media_of};
use super::version::LeftOut;
use crate::protocol::PictureId;
use crate::protocol::chat::{Piece, PromptStyle, Said, Segment, Task, orders};

/// Orders that are drawn in search of different ones: few shots have few, and
/// chance brings the same once more.
const DRAWN: usize = 64;

/// Answers whose tokens are counted at once: there may be thousands, and the
/// worker is to hear of other things between.
const COUNTED: usize = 256;

/// What is to be answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Goal {
    /// The turn; one that is not there yet comes after all that are.
    pub(super) id: Id,
    pub(super) task: Task,
    pub(super) parts: Vec<Piece>,
    /// The beginning of its answer.
    pub(super) begun: String,
}

/// The pieces of one shot or turn.
#[derive(Clone, Debug, PartialEq)]
struct Span {
    owner: Id,
    pieces: Vec<Piece>,
}

/// A prompt whose beginning can be left out, a shot or turn at a time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prompt {
    shots: Vec<Span>,
    turns: Vec<Span>,
    goal: Vec<Piece>,
}

/// A turn in the checkpoint's words.
fn pieces(style: &PromptStyle, task: Task, parts: &[Piece], said: Said<'_>) -> Vec<Piece> {
    let segments: Vec<_> = parts
        .iter()
        .map(|part| match part {
            Piece::Media(id) => Segment::Image(id.to_string()),
            Piece::Text(text) => Segment::Text(text.clone()),
        })
        .collect();
    let turn = style.turn(task, &segments, said).into_iter();
    turn.filter_map(|segment| match segment {
        Segment::Text(text) => Some(Piece::Text(text)),
        // A clip has one mark too: the page names both alike.
        Segment::Image(id) => Some(Piece::Media(id.parse().ok()?)),
        Segment::Video(_) => None,
    })
    .collect()
}

/// A shot in the checkpoint's words.
fn spelt(chat: Chat, style: &PromptStyle, task: Task, shot: &Shot) -> Vec<Piece> {
    let mut parts = shot.parts.clone();
    if chat.settings.with_untracked(|s| s.words_only) {
        parts.retain(|part| matches!(part, Piece::Text(_)));
    }
    pieces(style, task, &parts, Said::All(&shot.answer))
}

impl Prompt {
    fn new(chat: Chat, shots: &[Shot], goal: &Goal) -> Self {
        let style = untrack(|| chat.style());
        let task = goal.task;
        let shot = |shot: &Shot| Span {
            owner: shot.id,
            pieces: spelt(chat, &style, task, shot),
        };
        let turns = chat.turns.get_untracked();
        let turns = turns.iter().take_while(|turn| turn.id != goal.id);
        let said = turns.filter(|turn| turn.version.says_something());
        let said = said.map(|turn| Span {
            owner: turn.id,
            pieces: pieces(
                &style,
                turn.task,
                &turn.parts,
                Said::All(&turn.version.text),
            ),
        });
        let begun = match goal.begun.as_str() {
            "" => Said::Nothing,
            text => Said::Part(text),
        };
        Self {
            shots: shots.iter().map(shot).collect(),
            turns: said.collect(),
            goal: pieces(&style, task, &goal.parts, begun),
        }
    }

    pub(super) fn pieces(&self) -> Vec<Piece> {
        let before = self.shots.iter().chain(&self.turns);
        let before = before.flat_map(|span| span.pieces.clone());
        before.chain(self.goal.clone()).collect()
    }

    /// The shots in up to so many different orders, the rest as it is.
    pub(super) fn in_orders(&self, count: usize) -> Vec<Vec<Piece>> {
        let n = self.shots.len();
        if count < 2 || n < 2 {
            return vec![self.pieces()];
        }
        let mut different = Vec::new();
        for order in orders(n, DRAWN, 1) {
            let shots = order.into_iter().map(|at| self.shots[at].clone()).collect();
            let ordered = Self {
                shots,
                ..self.clone()
            };
            let pieces = ordered.pieces();
            if !different.contains(&pieces) {
                different.push(pieces);
            }
            if different.len() == count {
                break;
            }
        }
        different
    }

    /// Leaves out the first shot, or the first turn where no shot is left.
    fn cut(&mut self) -> Option<Span> {
        let spans = if self.shots.is_empty() {
            &mut self.turns
        } else {
            &mut self.shots
        };
        (!spans.is_empty()).then(|| spans.remove(0))
    }
}

/// The shots that stand in the prompt: those that are on, or the most similar
/// of them, the most similar last, and the cosines of these.
async fn shots(chat: Chat, goal: &Goal) -> Result<(Vec<Shot>, Option<Vec<(Id, f32)>>), String> {
    let on = chat.shots.get_untracked();
    let on: Vec<Shot> = on.into_iter().filter(|shot| shot.on).collect();
    let count = chat.settings.with_untracked(|settings| settings.similar);
    let query = media_of(&goal.parts).last().copied();
    let (Some(query), true) = (query, count > 0) else {
        return Ok((on, None));
    };
    // A shot stands for the last of its pictures.
    let of = |shot: &Shot| media_of(&shot.parts).last().copied();
    let mut support: Vec<PictureId> = on.iter().filter_map(of).collect();
    support.sort_unstable();
    support.dedup();
    let chosen = client::choose_similar(query, support, count).await?;
    let mut found: Vec<(Shot, f32)> = Vec::new();
    for (picture, cosine) in chosen {
        let same = on.iter().filter(|shot| of(shot) == Some(picture));
        found.extend(same.map(|shot| (shot.clone(), cosine)));
    }
    let spare = found.len().saturating_sub(count);
    let found = found.split_off(spare);
    let ids = found.iter().map(|(shot, cosine)| (shot.id, *cosine));
    let chosen = Some(ids.collect());
    Ok((found.into_iter().map(|(shot, _)| shot).collect(), chosen))
}

/// Tokens that are kept free for the answer: as many as may be written, up to
/// half of all, or those of the longest answer that is compared.
async fn room(chat: Chat, context: usize) -> Result<usize, String> {
    let (mode, most) = chat.settings.with_untracked(|s| (s.mode, s.most));
    if mode == Mode::Write {
        return Ok(most.min(context / 2));
    }
    // As they are scored: a blank goes before each.
    let answers = untrack(|| candidates(chat)).into_iter();
    let answers = answers.map(|answer| Piece::Text(format!(" {}", answer.trim())));
    let mut longest = 0;
    for answers in answers.collect::<Vec<_>>().chunks(COUNTED) {
        let tokens = client::planned(answers.to_vec()).await?.tokens;
        longest = tokens.into_iter().fold(longest, usize::max);
    }
    Ok(longest)
}

/// The prompt for what is to be answered, as much of it as fits with room for the
/// answer.
///
/// # Errors
/// What the worker says, or nothing where it is not `wanted` any more.
pub(super) async fn settle(
    chat: Chat,
    goal: &Goal,
    wanted: &dyn Fn() -> bool,
) -> Result<(Prompt, Plan), String> {
    let plan = async |prompt: &Prompt| {
        if !wanted() {
            return Err(String::new());
        }
        client::planned(prompt.pieces()).await
    };
    let (shots, chosen) = shots(chat, goal).await?;
    let mut prompt = Prompt::new(chat, &shots, goal);
    let all = (prompt.shots.len(), prompt.turns.len());
    let mut planned = plan(&prompt).await?;
    let mut tokens = planned.tokens.iter().copied();
    let mut cost = |span: &Span| {
        let tokens = tokens.by_ref().take(span.pieces.len()).sum::<usize>();
        (span.owner, (tokens, media_of(&span.pieces).len()))
    };
    let costs: Vec<_> = prompt
        .shots
        .iter()
        .chain(&prompt.turns)
        .map(&mut cost)
        .collect();
    let mut cut = Vec::new();
    let room = room(chat, planned.context).await?;
    while planned.total + room > planned.context {
        let excess = planned.total + room - planned.context;
        let (mut freed, before) = (0, cut.len());
        while freed < excess
            && let Some(span) = prompt.cut()
        {
            freed += costs[cut.len()].1.0;
            cut.push(span.owner);
        }
        if cut.len() == before {
            break;
        }
        planned = plan(&prompt).await?;
    }
    let plan = Plan {
        too_long: planned.total + room > planned.context,
        text: planned.text,
        total: planned.total,
        context: planned.context,
        cost: costs.into_iter().collect(),
        spare: BTreeMap::new(),
        room,
        cut,
        left_out: LeftOut {
            examples: all.0 - prompt.shots.len(),
            turns: all.1 - prompt.turns.len(),
        },
        chosen,
    };
    Ok((prompt, plan))
}

/// What the shots outside a prompt would take: tokens and pictures.
///
/// # Errors
/// What the worker says.
pub(super) async fn spare(
    chat: Chat,
    task: Task,
    plan: &Plan,
) -> Result<BTreeMap<Id, (usize, usize)>, String> {
    let style = untrack(|| chat.style());
    let spelt = |shot: &Shot| (shot.id, spelt(chat, &style, task, shot));
    let outside = |shot: &&Shot| !plan.cost.contains_key(&shot.id);
    let all = |shots: &Vec<Shot>| -> Vec<_> { shots.iter().filter(outside).map(spelt).collect() };
    let shots = chat.shots.with_untracked(all);
    let tokens = client::counted(&shots).await?;
    let costs = shots.iter().zip(tokens).map(|((id, pieces), tokens)| {
        let pictures = media_of(pieces).len();
        (*id, (tokens, pictures))
    });
    Ok(costs.collect())
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::{Piece, Prompt, Span};

    #[wasm_bindgen_test]
    fn orders_differ_and_are_no_more_than_there_are() {
        let prompt = |shots: &str| {
            let span = |words: char| Span {
                owner: 0,
                pieces: vec![Piece::Text(words.to_string())],
            };
            Prompt {
                shots: shots.chars().map(span).collect(),
                turns: Vec::new(),
                goal: vec![Piece::Text("?".to_owned())],
            }
        };
        for (shots, count, expected) in [
            ("a", 6, 1),
            ("ab", 1, 1),
            ("ab", 6, 2),
            ("abc", 6, 6),
            // Two that are equal change places unseen.
            ("aab", 6, 3),
            ("abcd", 6, 6),
        ] {
            let orders = prompt(shots).in_orders(count);
            assert_eq!(orders.len(), expected, "{shots}");
            for (at, order) in orders.iter().enumerate() {
                assert!(!orders[..at].contains(order), "{shots}");
            }
        }
    }
}
