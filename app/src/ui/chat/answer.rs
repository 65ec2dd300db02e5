//! How a turn comes to its answer.

use leptos::prelude::*;
use leptos::task::spawn_local;

use super::choices::likeliest;
use super::prompt::{Goal, Prompt, settle, spare};
use super::store::{Chat, Choice, Id, Mode, Plan, Settings, Writing, media_of};
use super::version::{By, Example, Outcome, Similar, Turn, Version};
use super::{client, conversations, media};
use crate::protocol::Loaded;
use crate::protocol::chat::{Ended, How, News, Pace, Piece, STOPPED, Task, Wish};
use crate::ui::store::{Model, Store};

impl Settings {
    fn how(&self) -> How {
        match self.choice {
            Choice::Greedy => How::Greedy,
            Choice::Sample => How::Sample {
                temperature: self.temperature,
                top_k: self.top_k,
                top_p: self.top_p,
                seed: self.seed,
            },
            Choice::Beams => How::Beams {
                width: self.beams,
                length_penalty: self.length_penalty,
            },
        }
    }

    /// What decides an answer, for a person.
    fn said(&self) -> String {
        if self.mode == Mode::Score {
            return "given answers compared".to_owned();
        }
        let mut said = match self.how() {
            How::Greedy => "the likeliest word each time (greedy)".to_owned(),
            How::Sample {
                temperature,
                top_k,
                top_p,
                seed,
            } => {
                let among = match top_k {
                    0 => String::new(),
                    k => format!("top k {k}, "),
                };
                format!("by chance: temperature {temperature}, {among}top p {top_p}, seed {seed}")
            }
            How::Beams {
                width,
                length_penalty,
            } => format!("{width} beams, length penalty {length_penalty}"),
        };
        if self.repetition_penalty != 1.0 {
            said += &format!(", repetition penalty {}", self.repetition_penalty);
        }
        said
    }
}

/// Sends what is in the composer.
pub(super) fn send(store: Store) {
    let chat = store.chat;
    if !chat.idle() {
        return;
    }
    let mut parts = chat.draft.get_untracked();
    parts.retain(|part| !matches!(part, Piece::Text(text) if text.trim().is_empty()));
    let task = chat.task.get_untracked();
    if parts.is_empty() {
        store.error.set(Some(
            match task {
                Task::Free => "Write something, or put a picture in, for the model to go on with.",
                _ => "Put a picture in first: drop, paste, draw or choose one.",
            }
            .to_owned(),
        ));
        return;
    }
    let turn = Turn::new(task, parts);
    let id = turn.id;
    chat.turns.update(|turns| turns.push(turn));
    chat.draft.set(Vec::new());
    answer(store, id, false);
}

/// Answers a turn, or goes on with the answer that is there. What is there stays
/// until there are words to take its place.
pub(super) fn answer(store: Store, id: Id, go_on: bool) {
    let chat = store.chat;
    let turns = chat.turns.get_untracked();
    let turn = turns.into_iter().find(|turn| turn.id == id);
    let Some(turn) = turn.filter(|_| chat.idle()) else {
        return;
    };
    let begun = if go_on {
        turn.version.text.clone()
    } else {
        String::new()
    };
    let since = js_sys::Date::now();
    chat.change_turn(id, |turn| turn.trouble = None);
    chat.writing.set(Some(Writing {
        turn: id,
        version: Version {
            text: begun.clone(),
            ..Version::default()
        },
        anew: !go_on,
        begun: begun.len(),
        spoken: begun.len(),
        since,
        first: None,
    }));
    keep_meanwhile(chat, since);
    let goal = Goal {
        id,
        task: turn.task,
        parts: turn.parts,
        begun,
    };
    spawn_local(async move {
        let done = client::unless_stopped(answered(store, &goal)).await;
        let Some(mut writing) = chat.writing.get_untracked() else {
            return;
        };
        end(&mut writing, done);
        announce(store, &writing);
        let more = writing.more();
        chat.change_turn(id, |turn| turn.take(writing.version, writing.anew, more));
        chat.forget_looks(id);
        chat.writing.set(None);
        conversations::save(chat);
    });
}

/// What became of an answer.
fn end(writing: &mut Writing, done: Result<(String, Outcome), String>) {
    match done {
        Ok((text, outcome)) => (writing.version.text, writing.version.outcome) = (text, outcome),
        Err(message) if message == STOPPED => {
            let pace = Pace {
                first: writing.first.unwrap_or_default(),
                total: js_sys::Date::now() - writing.since,
                ..Pace::default()
            };
            let ended = Ended::Stopped;
            writing.version.outcome = Outcome::Written { ended, pace };
        }
        Err(message) => writing.version.outcome = Outcome::Failed(message),
    }
    let stopped = matches!(
        writing.version.outcome,
        Outcome::Written {
            ended: Ended::Stopped,
            ..
        }
    );
    if stopped && !writing.more() {
        writing.version.outcome = Outcome::Failed("Stopped.".to_owned());
    }
}

/// Keeps what is written so far about once a second.
fn keep_meanwhile(chat: Chat, since: f64) {
    spawn_local(async move {
        loop {
            gloo_timers::future::TimeoutFuture::new(1000).await;
            let writing = chat.writing.get_untracked();
            let Some(writing) = writing.filter(|writing| writing.since == since) else {
                return;
            };
            if writing.more() {
                conversations::save(chat);
            }
        }
    });
}

/// The end of an answer, to those who do not see the page: what of it they have
/// not heard yet.
fn announce(store: Store, writing: &Writing) {
    let rest = writing.version.text.get(writing.spoken..);
    let rest = rest.unwrap_or_default().trim();
    let said = match &writing.version.outcome {
        Outcome::Failed(message) => message.clone(),
        _ if writing.spoken > writing.begun && rest.is_empty() => return,
        _ if writing.spoken > writing.begun => rest.to_owned(),
        _ => format!("Answer: {rest}"),
    };
    store.announcement.set(said);
}

/// The CLIP that chooses among the examples, where one is loaded.
pub(super) fn chooser(store: Store) -> Memo<Option<Loaded>> {
    Memo::new(move |_| {
        store.model.with(|model| match model {
            Model::Ready(loaded) => Some(loaded.clone()),
            _ => None,
        })
    })
}

/// The examples that were chosen and stand in the prompt, as they are now.
fn similar(store: Store, plan: &Plan) -> Option<Similar> {
    let chosen = plan.chosen.as_ref()?;
    let by = store.model.with_untracked(|model| match model {
        Model::Ready(loaded) => loaded.name.clone(),
        _ => String::new(),
    });
    let shots = store.chat.shots.get_untracked();
    let stands = chosen.iter().filter(|(id, _)| !plan.cut.contains(id));
    let examples = stands.filter_map(|&(id, cosine)| {
        let shot = shots.iter().find(|shot| shot.id == id)?;
        Some(Example {
            parts: shot.parts.clone(),
            answer: shot.answer.clone(),
            cosine,
        })
    });
    let examples = examples.collect();
    Some(Similar { by, examples })
}

async fn answered(store: Store, goal: &Goal) -> Result<(String, Outcome), String> {
    let chat = store.chat;
    let writer = client::ready(chat).await?;
    let mut settings = chat.settings.get_untracked();
    let (prompt, plan) = settle(chat, goal, &|| true).await?;
    if plan.too_long {
        let or = match settings.mode {
            Mode::Write => "allow a shorter answer in the settings",
            Mode::Score => "compare shorter answers",
        };
        return Err(format!(
            "This alone is longer than the model can read ({} of {} tokens, with room for the \
             answer): shorten it, or {or}.",
            plan.total, plan.context
        ));
    }
    let pieces = prompt.pieces();
    // The beginning belongs to the answer.
    let (mut asked, mut exact) = (pieces.clone(), plan.text.clone());
    let without = |text: &mut String| {
        if let Some(before) = text.strip_suffix(&goal.begun).map(str::len) {
            text.truncate(before);
        }
    };
    if let Some(Piece::Text(text)) = asked.last_mut() {
        without(text);
    }
    without(&mut exact);
    let by = By {
        model: writer.name,
        device: writer.device,
        settings: settings.said(),
    };
    let similar = similar(store, &plan);
    let turns = chat.turns.get_untracked();
    let before = turns.iter().find(|turn| turn.id == goal.id);
    let before = before.and_then(|turn| turn.version.by.as_ref());
    chat.writing.update(|writing| {
        let Some(writing) = writing else { return };
        // What another model goes on with is not its answer.
        writing.anew |= before.is_none_or(|before| before.model != by.model);
        writing.version.prompt = asked;
        writing.version.exact = exact;
        writing.version.by = Some(by);
        writing.version.similar = similar;
        writing.version.left_out = plan.left_out;
    });
    let end = chat.style().end_of_chunk;
    if goal.task != Task::Free && !end.is_empty() && end.trim().is_empty() {
        // Where no token ends what belongs to a picture, as in IDEFICS, a line does.
        settings.stop.push(end);
    }
    match settings.mode {
        Mode::Write => write(&settings, plan.room, goal, pieces).await,
        Mode::Score => compare(chat, &settings, &prompt).await,
    }
}

async fn write(
    settings: &Settings,
    most: usize,
    goal: &Goal,
    prompt: Vec<Piece>,
) -> Result<(String, Outcome), String> {
    let news = client::written(|request| Wish::Write {
        request,
        prompt,
        how: settings.how(),
        max_new_tokens: most,
        repetition_penalty: settings.repetition_penalty,
        stop: settings.stop.clone(),
    })
    .await?;
    match news {
        News::Written {
            text, ended, pace, ..
        } => {
            let text = format!("{}{text}", goal.begun);
            Ok((text, Outcome::Written { ended, pace }))
        }
        _ => Err("the worker answered something else: reload the page".to_owned()),
    }
}

/// The answers to compare: those given, else those of the shots.
pub(super) fn candidates(chat: Chat) -> Vec<String> {
    let given = chat.settings.with(|settings| settings.answers.clone());
    if !given.is_empty() {
        return given;
    }
    let mut found = Vec::<String>::new();
    chat.shots.with(|shots| {
        for shot in shots.iter().filter(|shot| shot.on) {
            let answer = shot.answer.trim();
            if !answer.is_empty() && !found.iter().any(|known| known == answer) {
                found.push(answer.to_owned());
            }
        }
    });
    found
}

async fn compare(
    chat: Chat,
    settings: &Settings,
    prompt: &Prompt,
) -> Result<(String, Outcome), String> {
    let answers = untrack(|| candidates(chat));
    if answers.len() < 2 {
        return Err(
            "Give two or more answers to compare, one on a line, or shots that have them."
                .to_owned(),
        );
    }
    let orders = settings.orders.clamp(1, 6);
    let prompts = prompt.in_orders(orders);
    let orders = prompts.len();
    let (likely, milliseconds) = client::scored(prompts, answers.clone()).await?;
    let likely: Vec<_> = answers.into_iter().zip(likely).collect();
    let best = likeliest(&likely, settings.by_mean).unwrap_or_default();
    let best = best.to_owned();
    let outcome = Outcome::Scored {
        likely,
        orders,
        milliseconds,
    };
    Ok((best, outcome))
}

/// Lets that answer of a comparison count which is the likeliest by the measure
/// of now.
pub(super) fn count_along(chat: Chat) {
    let by_mean = Memo::new(move |_| chat.settings.with(|settings| settings.by_mean));
    Effect::new(move |_| {
        let by_mean = by_mean.get();
        let mut turns = chat.turns.get();
        let mut changed = Vec::new();
        for turn in &mut turns {
            let id = turn.id;
            for version in turn.versions_mut() {
                if let Outcome::Scored { likely, .. } = &version.outcome
                    && let Some(best) = likeliest(likely, by_mean)
                    && best != version.text
                {
                    version.text = best.to_owned();
                    changed.push(id);
                }
            }
        }
        if !changed.is_empty() {
            changed.into_iter().for_each(|id| chat.forget_looks(id));
            chat.turns.set(turns);
        }
    });
}

/// Answers once more: the answer so far stays as another version. What came after
/// is kept in a conversation of its own.
pub(super) fn again(store: Store, id: Id) {
    let chat = store.chat;
    if !chat.idle() {
        return;
    }
    conversations::branch(chat, id);
    let turns = chat.turns.get_untracked();
    let turn = turns.iter().find(|turn| turn.id == id);
    let by = turn.and_then(|turn| turn.version.by.as_ref());
    // By chance, the same settings would give the same words. Those that were
    // changed since, a seed above all, are what the person wants to see.
    let same = chat.settings.with_untracked(|settings| {
        let chance = settings.mode == Mode::Write && settings.choice == Choice::Sample;
        chance && by.is_some_and(|by| by.settings == settings.said())
    });
    if same {
        chat.settings.update(|settings| settings.seed += 1);
    }
    answer(store, id, false);
}

/// A plan that is being made.
#[derive(Clone, Copy)]
struct Round {
    of: StoredValue<u32>,
    now: u32,
}

impl Round {
    /// Nothing has changed since, and what asked for it is still there.
    fn counts(self) -> bool {
        self.of.try_get_value() == Some(self.now)
    }

    /// What was stopped is planned again when its turn has ended.
    fn takes(self, plan: &Result<Plan, String>) -> bool {
        self.counts() && plan.as_ref().err().is_none_or(|why| why != STOPPED)
    }
}

/// Has a goal planned whenever something of its prompt changes, a moment after
/// the last letter.
fn along(
    store: Store,
    goal: impl Fn() -> Goal + 'static,
    plan: impl AsyncFn(Goal, Round) + Copy + 'static,
) {
    let chat = store.chat;
    let chooser = chooser(store);
    let of = StoredValue::new(0_u32);
    Effect::new(move |_| {
        let goal = goal();
        chat.shots.track();
        chat.turns.track();
        if chat.settings.with(|settings| settings.similar > 0) {
            // A memo that nobody reads hears of nothing: tracking is not enough.
            chooser.with(|_| ());
        }
        let ready = chat.writer().is_some();
        let now = of.get_value() + 1;
        of.set_value(now);
        if !ready {
            return;
        }
        let round = Round { of, now };
        spawn_local(async move {
            gloo_timers::future::TimeoutFuture::new(200).await;
            if round.counts() {
                for id in media_of(&goal.parts) {
                    media::look_ahead(id);
                }
                plan(goal, round).await;
            }
        });
    });
}

/// Says what the prompt of what is in the composer becomes.
pub(super) fn plan_along(store: Store) {
    let chat = store.chat;
    let goal = move || Goal {
        id: 0,
        task: chat.task.get(),
        parts: chat.draft.get(),
        begun: String::new(),
    };
    along(store, goal, async move |goal, round| {
        let plan = async {
            let (_, mut plan) = settle(chat, &goal, &|| round.counts()).await?;
            plan.spare = spare(chat, goal.task, &plan).await?;
            Ok(plan)
        };
        let plan = plan.await;
        if round.takes(&plan) {
            chat.chosen
                .set(plan.as_ref().ok().and_then(|plan| plan.chosen.clone()));
            chat.plan.set(Some(plan));
        }
    });
}

/// The same for a turn that is being changed.
pub(super) fn plan_turn(
    store: Store,
    goal: impl Fn() -> Goal + 'static,
    told: RwSignal<Option<Result<Plan, String>>>,
) {
    let chat = store.chat;
    along(store, goal, async move |goal, round| {
        let plan = settle(chat, &goal, &|| round.counts()).await;
        let plan = plan.map(|(_, plan)| plan);
        if round.takes(&plan) {
            told.set(Some(plan));
        }
    });
}
