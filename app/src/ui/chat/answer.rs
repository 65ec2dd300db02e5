//! How a turn comes to its answer.

use leptos::prelude::*;
use leptos::task::spawn_local;

use super::prompt::{Goal, Prompt, settle};
use super::store::{Chat, Choice, Id, Mode, Outcome, Settings, Turn, Writing, fresh, media_of};
use super::{client, conversations, media};
use crate::protocol::chat::{How, News, Piece, Task, Wish};
use crate::ui::store::Store;

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
    let turn = Turn {
        id: fresh(),
        task,
        parts,
        answer: String::new(),
        outcome: Outcome::Busy,
        prompt: Vec::new(),
    };
    let id = turn.id;
    chat.turns.update(|turns| turns.push(turn));
    chat.draft.set(Vec::new());
    answer(store, id, false);
    spawn_local(async move {
        leptos::task::tick().await;
        super::turn::into_view(id);
    });
}

/// Answers a turn, or goes on with the answer that is there.
pub(super) fn answer(store: Store, id: Id, go_on: bool) {
    let chat = store.chat;
    let turns = chat.turns.get_untracked();
    let turn = turns.into_iter().find(|turn| turn.id == id);
    let Some(turn) = turn.filter(|_| chat.idle()) else {
        return;
    };
    let begun = if go_on { turn.answer } else { String::new() };
    chat.change_turn(id, |turn| {
        turn.outcome = Outcome::Busy;
        turn.answer.clone_from(&begun);
    });
    chat.looks.update(|looks| {
        looks.remove(&id);
    });
    chat.writing.set(Some(Writing {
        turn: id,
        text: begun.clone(),
    }));
    let goal = Goal {
        id,
        task: turn.task,
        parts: turn.parts,
        begun,
    };
    spawn_local(async move {
        let done = answered(store, &goal).await;
        let so_far = chat.writing.get_untracked().map(|writing| writing.text);
        chat.change_turn(id, |turn| match done {
            Ok((text, outcome)) => {
                turn.answer = text;
                turn.outcome = outcome;
            }
            Err(message) => {
                let message = match message.as_str() {
                    "stopped" => "Stopped.".to_owned(),
                    _ => message,
                };
                turn.answer = so_far.unwrap_or_default();
                turn.outcome = Outcome::Failed(message);
            }
        });
        announce(store, id);
        chat.writing.set(None);
        conversations::save(chat);
    });
}

/// The end of an answer, to those who do not see the page.
fn announce(store: Store, id: Id) {
    let turns = store.chat.turns.get_untracked();
    if let Some(turn) = turns.into_iter().find(|turn| turn.id == id) {
        store.announcement.set(match turn.outcome {
            Outcome::Failed(message) => message,
            _ => format!("Answer: {}", turn.answer.trim()),
        });
    }
}

async fn answered(store: Store, goal: &Goal) -> Result<(String, Outcome), String> {
    let chat = store.chat;
    client::ready(chat).await?;
    let settings = chat.settings.get_untracked();
    let room = match settings.mode {
        Mode::Write => settings.most,
        // Answers to compare are short.
        Mode::Score => settings.most.min(16),
    };
    let (prompt, plan) = settle(chat, goal, room, &|| true).await?;
    if plan.too_long {
        return Err(format!(
            "This alone is longer than the model can read ({} of {} tokens, with room for the \
             answer): shorten it, or allow a shorter answer in the settings.",
            plan.total, plan.context
        ));
    }
    let pieces = prompt.pieces();
    chat.change_turn(goal.id, |turn| {
        turn.prompt.clone_from(&pieces);
        // The beginning belongs to the answer.
        if let Some(Piece::Text(text)) = turn.prompt.last_mut() {
            text.truncate(text.len() - goal.begun.len());
        }
    });
    match settings.mode {
        Mode::Write => write(&settings, room.min(plan.context / 2), goal, pieces).await,
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
            // What the page itself ended has its beginning already.
            let text = if text.starts_with(&goal.begun) && pace.total == 0.0 {
                text
            } else {
                format!("{}{text}", goal.begun)
            };
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
    let likely = client::scored(prompts, answers.clone()).await?;
    let likely: Vec<_> = answers.into_iter().zip(likely).collect();
    let best = likely.iter().max_by(|(_, a), (_, b)| {
        if settings.by_mean {
            a.mean.total_cmp(&b.mean)
        } else {
            a.sum.total_cmp(&b.sum)
        }
    });
    let best = best.map(|(answer, _)| answer.clone()).unwrap_or_default();
    Ok((best, Outcome::Scored { likely, orders }))
}

/// Answers once more. What came after is kept in a conversation of its own.
pub(super) fn again(store: Store, id: Id) {
    let chat = store.chat;
    if !chat.idle() {
        return;
    }
    conversations::branch(chat, id);
    // By chance, the same seed would give the same words.
    chat.settings.update(|settings| {
        if settings.choice == Choice::Sample {
            settings.seed += 1;
        }
    });
    answer(store, id, false);
}

/// What the composer holds, as it would be asked.
pub(super) fn draft_goal(chat: Chat) -> Goal {
    Goal {
        id: 0,
        task: chat.task.get_untracked(),
        parts: chat.draft.get_untracked(),
        begun: String::new(),
    }
}

/// Says what the prompt becomes whenever something of it changes, a moment
/// after the last letter.
pub(super) fn plan_along(chat: Chat) {
    let round = StoredValue::new(0_u32);
    Effect::new(move |_| {
        chat.draft.track();
        chat.shots.track();
        chat.turns.track();
        chat.task.track();
        let settings = chat.settings.get();
        let ready = chat.writer().is_some();
        let now = round.get_value() + 1;
        round.set_value(now);
        if !ready {
            return;
        }
        spawn_local(async move {
            gloo_timers::future::TimeoutFuture::new(200).await;
            let last = move || round.try_get_value() == Some(now);
            if !last() {
                return;
            }
            let goal = draft_goal(chat);
            for id in media_of(&goal.parts) {
                media::look_ahead(id);
            }
            let plan = settle(chat, &goal, settings.most, &last).await;
            if last() {
                chat.plan.set(Some(plan.map(|(_, plan)| plan)));
            }
        });
    });
}
