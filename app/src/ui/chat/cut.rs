//! What is longer than the model can read: what is left out of it, told before
//! it is sent and with the answer.

use leptos::prelude::*;

use super::store::Plan;
use super::version::LeftOut;

/// What is left out; nothing where all fits. It goes from the front.
fn what(left_out: LeftOut) -> Option<String> {
    let some = |n: usize, one: &str, many: &str| match n {
        0 => None,
        1 => Some(format!("the first {one}")),
        n => Some(format!("the first {n} {many}")),
    };
    let LeftOut { examples, turns } = left_out;
    let parts = [
        some(examples, "example", "examples"),
        some(turns, "turn", "turns"),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(" and "))
}

/// The same of an answer that is there.
pub(super) fn was_left_out(left_out: LeftOut) -> Option<String> {
    let what = what(left_out)?;
    let were = match left_out.examples + left_out.turns {
        1 => "was",
        _ => "were",
    };
    Some(format!(
        "Longer than the model can read: {what} {were} left out."
    ))
}

fn will_be_left_out(plan: &Result<Plan, String>) -> Option<String> {
    let plan = match plan {
        Ok(plan) => plan,
        Err(message) => return Some(message.clone()),
    };
    if plan.too_long {
        return Some(format!(
            "This alone is longer than the model can read ({} of {} tokens, with room for the answer).",
            plan.total, plan.context
        ));
    }
    let what = what(plan.left_out)?;
    Some(format!(
        "Longer than the model can read: {what} will be left out."
    ))
}

/// What does not fit, before it is sent.
#[component]
pub(super) fn Cut(plan: RwSignal<Option<Result<Plan, String>>>) -> impl IntoView {
    let said = move || plan.with(|plan| will_be_left_out(plan.as_ref()?));
    view! { {move || said().map(|text| view! { <p class="cut">{text}</p> })} }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::{LeftOut, was_left_out};

    #[wasm_bindgen_test]
    fn what_was_left_out_is_counted() {
        let told = |examples, turns| was_left_out(LeftOut { examples, turns });
        let ends = |examples, turns, end: &str| {
            let told = told(examples, turns).unwrap();
            assert!(told.ends_with(end), "{told}");
        };
        assert_eq!(told(0, 0), None);
        ends(1, 0, ": the first example was left out.");
        ends(3, 0, ": the first 3 examples were left out.");
        ends(
            2,
            1,
            ": the first 2 examples and the first turn were left out.",
        );
    }
}
