//! What a check found, expected beside found.

use leptos::prelude::*;

use super::store::{Check, store};
use crate::protocol::{Checked, Finding};

fn row(finding: Finding) -> impl IntoView {
    let right = finding.passed();
    let Finding {
        what,
        expected,
        found,
        difference,
        ..
    } = finding;
    let difference = if difference.is_finite() {
        format!("{difference:.1e}")
    } else {
        "–".to_owned()
    };
    view! {
        <tr data-finding=what.clone() data-right=right.to_string()>
            <th scope="row">{what.clone()}</th>
            <td>{format!("{expected:.6}")}</td>
            <td>{format!("{found:.6}")}</td>
            <td>{difference}</td>
            <td>{if right { "right" } else { "wrong" }}</td>
        </tr>
    }
}

/// The last check's numbers, and what it could not look at.
#[component]
pub(super) fn Findings() -> impl IntoView {
    let store = store();
    move || {
        let Check::Done { of, checked, .. } = store.check.get() else {
            return None;
        };
        let Checked {
            findings, notes, ..
        } = checked;
        let table = (!findings.is_empty()).then(|| {
            view! {
                <div class="findings" tabindex="0" role="region" aria-label="Expected beside found">
                    <table id="check-findings">
                        <caption>{of}</caption>
                        <thead>
                            <tr>
                                <th scope="col">"Known of this model"</th>
                                <th scope="col">"Expected"</th>
                                <th scope="col">"Found"</th>
                                <th scope="col">"Largest difference"</th>
                                <th scope="col"><span class="unseen">"Outcome"</span></th>
                            </tr>
                        </thead>
                        <tbody>{findings.into_iter().map(row).collect_view()}</tbody>
                    </table>
                </div>
            }
        });
        let notes = notes
            .into_iter()
            .map(|note| view! { <p class="hint check-note">{note}</p> });
        Some(view! { {table} {notes.collect_view()} })
    }
}
