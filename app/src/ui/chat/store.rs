//! What the chat knows: plain data in signals, so that it can be kept, exported
//! and copied as it is. The pictures' bytes lie in [`super::media`].

use std::collections::BTreeMap;

use leptos::prelude::*;
use serde::{Deserialize, Serialize};

use super::editor::Hand;
use super::looks::Looks;
use super::undo::Undo;
use super::version::{LeftOut, Turn, Version};
use crate::protocol::chat::{Piece, PromptStyle, Task, Writer};
use crate::protocol::{Device, PictureId};
use crate::ui::store::{Model, store};

/// A turn, a shot or a conversation, by chance.
pub(super) type Id = u32;

/// A number that nothing else has.
pub(super) fn fresh() -> Id {
    (js_sys::Math::random() * f64::from(u32::MAX)) as Id
}

/// What is shown, and what is to be answered: an example for the model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Shot {
    pub(super) id: Id,
    /// It stands in the prompt.
    pub(super) on: bool,
    pub(super) parts: Vec<Piece>,
    pub(super) answer: String,
}

impl Shot {
    pub(super) fn new(parts: Vec<Piece>, answer: &str) -> Self {
        Self {
            id: fresh(),
            on: true,
            parts,
            answer: answer.to_owned(),
        }
    }
}

/// One conversation, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Conversation {
    pub(super) id: Id,
    pub(super) title: String,
    /// Milliseconds since 1970 when it was last changed.
    pub(super) changed: f64,
    pub(super) task: Task,
    pub(super) shots: Vec<Shot>,
    pub(super) turns: Vec<Turn>,
    pub(super) draft: Vec<Piece>,
}

/// Shots under a name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ShotSet {
    pub(super) id: Id,
    pub(super) name: String,
    pub(super) task: Task,
    pub(super) shots: Vec<Shot>,
}

/// How tokens are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Choice {
    Greedy,
    Sample,
    Beams,
}

/// What an answer is: new text, or the likeliest of those given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Mode {
    Write,
    Score,
}

/// How the model answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    pub(super) choice: Choice,
    pub(super) temperature: f32,
    /// 0 is all.
    pub(super) top_k: usize,
    pub(super) top_p: f32,
    pub(super) seed: u64,
    pub(super) beams: usize,
    pub(super) length_penalty: f32,
    /// Most tokens of an answer.
    pub(super) most: usize,
    pub(super) repetition_penalty: f32,
    /// Text that ends an answer.
    pub(super) stop: Vec<String>,
    pub(super) mode: Mode,
    /// Answers to compare; where there are none, those of the shots.
    pub(super) answers: Vec<String>,
    /// Orders of the shots to average over.
    pub(super) orders: usize,
    /// Compare by the mean of a token, else by the sum.
    pub(super) by_mean: bool,
    /// Shots to choose by similarity; 0 takes all.
    pub(super) similar: usize,
    /// Shots show their words alone.
    pub(super) words_only: bool,
    /// Frames of a clip in a second.
    pub(super) rate: f64,
    /// Most frames of a clip.
    pub(super) frames: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            choice: Choice::Greedy,
            temperature: 0.8,
            top_k: 0,
            top_p: 0.95,
            seed: 1,
            beams: 3,
            length_penalty: 1.0,
            most: 32,
            repetition_penalty: 1.0,
            stop: Vec::new(),
            mode: Mode::Write,
            answers: Vec::new(),
            orders: 1,
            by_mean: true,
            similar: 0,
            words_only: false,
            rate: 1.0,
            frames: 8,
        }
    }
}

/// A picture or a clip on the page.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Media {
    pub(super) name: String,
    /// An object URL for each frame.
    pub(super) urls: Vec<String>,
}

/// What the prompt becomes, as far as the page shows it.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) struct Plan {
    /// The exact text.
    pub(super) text: String,
    /// Tokens of what is sent.
    pub(super) total: usize,
    /// Longest text in tokens.
    pub(super) context: usize,
    /// Tokens and pictures of each shot, those left out included.
    pub(super) cost: BTreeMap<Id, (usize, usize)>,
    /// The same of the shots that are off or not chosen, by themselves.
    pub(super) spare: BTreeMap<Id, (usize, usize)>,
    /// Tokens that are kept free for the answer.
    pub(super) room: usize,
    /// Shots and turns that do not fit, from the front.
    pub(super) cut: Vec<Id>,
    /// How many they are.
    pub(super) left_out: LeftOut,
    /// Without them it is still too long.
    pub(super) too_long: bool,
    /// The shots chosen by similarity, the most similar last, with cosines.
    pub(super) chosen: Option<Vec<(Id, f32)>>,
}

/// What is being written. Its turn is as it was until it is done.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Writing {
    pub(super) turn: Id,
    /// As far as it has come.
    pub(super) version: Version,
    /// It is a version of its own, not more of the one that is shown.
    pub(super) anew: bool,
    /// Bytes of its text that were there before it began.
    pub(super) begun: usize,
    /// Bytes of its text that have been read aloud.
    pub(super) spoken: usize,
    /// When it began, in milliseconds since 1970.
    pub(super) since: f64,
    /// Milliseconds until its first word, once that is there.
    pub(super) first: Option<f64>,
}

impl Writing {
    /// Something was written that was not there before.
    pub(super) fn more(&self) -> bool {
        self.version.text.len() > self.begun && self.version.says_something()
    }
}

/// The chat.
#[derive(Clone, Copy)]
pub(in crate::ui) struct Chat {
    pub(in crate::ui) model: RwSignal<Model<Writer>>,
    pub(in crate::ui) device: RwSignal<Device>,
    /// The page was opened: a model is wanted.
    pub(in crate::ui) begun: RwSignal<bool>,
    /// What is kept has been read.
    pub(super) ready: RwSignal<bool>,
    /// The conversation on the page; its parts lie apart, so that a letter
    /// typed draws nothing else anew.
    pub(super) id: RwSignal<Id>,
    pub(super) title: RwSignal<String>,
    pub(super) task: RwSignal<Task>,
    pub(super) shots: RwSignal<Vec<Shot>>,
    pub(super) turns: RwSignal<Vec<Turn>>,
    pub(super) draft: RwSignal<Vec<Piece>>,
    pub(super) settings: RwSignal<Settings>,
    /// All conversations, the one on the page as it was last kept.
    pub(super) all: RwSignal<Vec<Conversation>>,
    pub(super) sets: RwSignal<Vec<ShotSet>>,
    pub(super) media: RwSignal<BTreeMap<PictureId, Media>>,
    pub(super) writing: RwSignal<Option<Writing>>,
    /// Nothing is being answered; follows `writing`, but not its letters.
    idle: Memo<bool>,
    /// Or why it is not known.
    pub(super) plan: RwSignal<Option<Result<Plan, String>>>,
    /// [`Plan::chosen`] of what is in the composer.
    pub(super) chosen: RwSignal<Option<Vec<(Id, f32)>>>,
    /// Where the words of a turn looked.
    pub(super) looks: RwSignal<BTreeMap<Id, Looks>>,
    pub(super) composer: Hand,
    /// What can be brought back.
    pub(super) undo: Undo,
}

impl Chat {
    pub(in crate::ui) fn new() -> Self {
        let writing = RwSignal::new(None::<Writing>);
        Self {
            model: RwSignal::new(Model::Loading(0.0)),
            device: RwSignal::new(Device::Best),
            begun: RwSignal::new(false),
            ready: RwSignal::new(false),
            id: RwSignal::new(fresh()),
            title: RwSignal::default(),
            task: RwSignal::default(),
            shots: RwSignal::default(),
            turns: RwSignal::default(),
            draft: RwSignal::default(),
            settings: RwSignal::new(Settings::default()),
            all: RwSignal::default(),
            sets: RwSignal::default(),
            media: RwSignal::default(),
            writing,
            idle: Memo::new(move |_| writing.with(Option::is_none)),
            plan: RwSignal::new(None),
            chosen: RwSignal::new(None),
            looks: RwSignal::default(),
            composer: Hand::new(),
            undo: Undo::new(),
        }
    }

    /// What the loaded model says of itself.
    pub(super) fn writer(self) -> Option<Writer> {
        match self.model.get() {
            Model::Ready(writer) => Some(writer),
            _ => None,
        }
    }

    /// The prompt conventions of the model; OpenFlamingo's where there is none.
    pub(super) fn style(self) -> PromptStyle {
        self.writer()
            .map_or_else(PromptStyle::open_flamingo, |writer| writer.style)
    }

    /// Follows one turn.
    pub(super) fn turn(self, id: Id) -> Memo<Option<Turn>> {
        Memo::new(move |_| {
            let found = |all: &Vec<Turn>| all.iter().find(|turn| turn.id == id).cloned();
            self.turns.with(found)
        })
    }

    /// Follows one shot.
    pub(super) fn shot(self, id: Id) -> Memo<Option<Shot>> {
        Memo::new(move |_| {
            let found = |all: &Vec<Shot>| all.iter().find(|shot| shot.id == id).cloned();
            self.shots.with(found)
        })
    }

    pub(super) fn change_turn(self, id: Id, change: impl FnOnce(&mut Turn)) {
        self.turns.update(|turns| {
            if let Some(turn) = turns.iter_mut().find(|turn| turn.id == id) {
                change(turn);
            }
        });
    }

    pub(super) fn change_shot(self, id: Id, change: impl FnOnce(&mut Shot)) {
        self.shots.update(|shots| {
            if let Some(shot) = shots.iter_mut().find(|shot| shot.id == id) {
                change(shot);
            }
        });
    }

    /// What was seen of a turn's answer is of another one now.
    pub(super) fn forget_looks(self, id: Id) {
        self.looks.update(|looks| {
            looks.remove(&id);
        });
    }

    /// Nothing is being answered.
    pub(super) fn idle(self) -> bool {
        self.idle.get()
    }
}

/// The words of some parts.
pub(super) fn text_of(parts: &[Piece]) -> String {
    let words = parts.iter().filter_map(|part| match part {
        Piece::Text(text) => Some(text.as_str()),
        Piece::Media(_) => None,
    });
    words.collect::<Vec<_>>().concat()
}

/// The pictures of some parts.
pub(super) fn media_of(parts: &[Piece]) -> Vec<PictureId> {
    let media = parts.iter().filter_map(|part| match part {
        Piece::Media(id) => Some(*id),
        Piece::Text(_) => None,
    });
    media.collect()
}

/// The chat.
pub(super) fn chat() -> Chat {
    store().chat
}
