//! Answers to compare, and how likely each of them was found.

use leptos::prelude::*;

use super::answer::candidates;
use super::store::{Mode, chat};
use crate::protocol::chat::Likely;

/// The possible answers, shown where answers are compared.
#[component]
pub(super) fn Choices() -> impl IntoView {
    let chat = chat();
    let text = move || chat.settings.with(|s| s.answers.join("\n"));
    let edit = move |event| {
        let text = event_target_value(&event);
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let lines = lines.map(str::to_owned).collect();
        chat.settings.update(|s| s.answers = lines);
    };
    let of_shots = move || {
        let found = candidates(chat).join("\n");
        if found.is_empty() {
            "One answer on a line".to_owned()
        } else {
            found
        }
    };
    view! {
        <Show when=move || chat.settings.with(|s| s.mode == Mode::Score)>
            <label class="choices">
                <span class="hint">"Possible answers, one on a line. Left empty, those of the examples are taken."</span>
                <textarea id="choices-input" rows="3" prop:value=text placeholder=of_shots on:change=edit></textarea>
            </label>
        </Show>
    }
}

/// The answer that counts as the turn's.
pub(super) fn likeliest(likely: &[(String, Likely)], by_mean: bool) -> Option<&str> {
    let value = |likely: &Likely| if by_mean { likely.mean } else { likely.sum };
    let best = likely
        .iter()
        .max_by(|(_, a), (_, b)| value(a).total_cmp(&value(b)));
    best.map(|(answer, _)| answer.as_str())
}

/// Bars of log-likelihoods, the likeliest first. A bar's length is the
/// probability among these answers.
#[component]
pub(super) fn Likelihoods(
    likely: Vec<(String, Likely)>,
    orders: usize,
    milliseconds: f64,
) -> impl IntoView {
    let chat = chat();
    let rows = move || {
        let by_mean = chat.settings.with(|s| s.by_mean);
        let value = |likely: &Likely| if by_mean { likely.mean } else { likely.sum };
        let mut rows: Vec<_> = likely
            .iter()
            .map(|(answer, likely)| (answer.clone(), value(likely)))
            .collect();
        rows.sort_by(|a, b| b.1.total_cmp(&a.1));
        let top = rows.first().map_or(0.0, |row| row.1);
        let sum: f32 = rows.iter().map(|row| (row.1 - top).exp()).sum();
        rows.into_iter().enumerate().map(move |(at, (answer, value))| {
            let part = (value - top).exp() / sum * 100.0;
            view! {
                <li class="bar likely" class:best=at == 0 data-answer=answer.clone() data-value=value.to_string()>
                    <span class="bar-label" title=answer.clone()>{answer.clone()}</span>
                    <span class="bar-track" aria-hidden="true"><span class="bar-fill" style:width=format!("{part:.2}%")></span></span>
                    <span class="bar-percent">{format!("{part:.1} %")}</span>
                    <span class="bar-cosine"><span class="unseen">"log-likelihood "</span>{format!("{value:.2}")}</span>
                </li>
            }
        }).collect_view()
    };
    let averaged = match orders {
        0 | 1 => String::new(),
        n => format!(", averaged over {n} orders of the examples"),
    };
    // Not kept of what was compared before it was measured.
    let took = if milliseconds > 0.0 {
        format!(" Compared in {:.2} s.", milliseconds / 1000.0)
    } else {
        String::new()
    };
    let measure = move || {
        if chat.settings.with(|s| s.by_mean) {
            "of a token, on average"
        } else {
            "of the whole answer"
        }
    };
    view! {
        <ol class="bars whole" aria-label="Answers, the likeliest first">{rows}</ol>
        <p class="timings">"Log-likelihood " {measure} {averaged} "; bars show the share among these answers." {took}</p>
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::{Likely, likeliest};

    #[wasm_bindgen_test]
    fn the_measure_decides_which_answer_counts() {
        let likely = |sum, mean| Likely { sum, mean };
        let answers = [
            ("short".to_owned(), likely(-2.0, -2.0)),
            ("a long one".to_owned(), likely(-3.0, -0.5)),
        ];
        assert_eq!(likeliest(&answers, true), Some("a long one"));
        assert_eq!(likeliest(&answers, false), Some("short"));
        assert_eq!(likeliest(&[], true), None);
    }
}
