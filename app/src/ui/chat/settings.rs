//! How the model answers.

use leptos::prelude::*;

use super::store::{Choice, Mode, Settings, chat};

/// A number with its limits.
#[component]
fn Number(
    label: &'static str,
    id: &'static str,
    low: f64,
    high: f64,
    step: f64,
    #[prop(optional)] hint: &'static str,
    get: impl Fn(&Settings) -> f64 + Copy + Send + Sync + 'static,
    set: impl Fn(&mut Settings, f64) + Copy + Send + Sync + 'static,
) -> impl IntoView {
    let chat = chat();
    let value = move || {
        let value = chat.settings.with(get);
        // f32 settings would show their last bits.
        format!("{}", (value * 1e4).round() / 1e4)
    };
    let change = move |event| {
        if let Ok(value) = event_target_value(&event).parse::<f64>()
            && value.is_finite()
        {
            chat.settings
                .update(|settings| set(settings, value.clamp(low, high)));
        } else {
            // What is no number is shown as it was.
            chat.settings.notify();
        }
    };
    view! {
        <label class="field" title=hint>
            <span>{label}</span>
            <input id=id type="number" min=low.to_string() max=high.to_string() step=step.to_string() prop:value=value on:change=change/>
        </label>
    }
}

#[component]
pub(super) fn SettingsPanel() -> impl IntoView {
    let chat = chat();
    let choices = [
        (Choice::Greedy, "greedy", "the likeliest word"),
        (Choice::Sample, "sample", "by chance"),
        (Choice::Beams, "beams", "beam search"),
    ];
    let choose = move |event| {
        let name = event_target_value(&event);
        if let Some((choice, ..)) = choices.iter().find(|(_, other, _)| *other == name) {
            chat.settings.update(|settings| settings.choice = *choice);
        }
    };
    let is = move |choice: Choice| chat.settings.with(|settings| settings.choice == choice);
    let writes = move || chat.settings.with(|settings| settings.mode == Mode::Write);
    view! {
        <section class="panel settings" aria-labelledby="settings-title">
            <details class="fold" id="settings">
                <summary><h2 id="settings-title">"Settings"</h2> <span class="hint">{move || summary(&chat.settings.get())}</span></summary>
                <Show when=writes fallback=move || view! { <Comparing/> }>
                    <label class="field">
                        <span>"Each word is"</span>
                        <select id="choice" on:change=choose>
                            {choices.map(|(choice, name, word)| view! { <option value=name selected=move || is(choice)>{word}</option> })}
                        </select>
                    </label>
                    <Show when=move || is(Choice::Sample)>
                        <Number label="Temperature" id="temperature" low=0.05 high=5.0 step=0.05 hint="Below 1 the likely become likelier" get=|s| f64::from(s.temperature) set=|s, v| s.temperature = v as f32/>
                        <Number label="Top k" id="top-k" low=0.0 high=1000.0 step=1.0 hint="Among so many of the likeliest; 0 is all" get=|s| s.top_k as f64 set=|s, v| s.top_k = v as usize/>
                        <Number label="Top p" id="top-p" low=0.01 high=1.0 step=0.01 hint="Among as many of the likeliest as make up this probability" get=|s| f64::from(s.top_p) set=|s, v| s.top_p = v as f32/>
                        <Number label="Seed" id="seed" low=0.0 high=9e15 step=1.0 hint="The same seed gives the same words" get=|s| s.seed as f64 set=|s, v| s.seed = v as u64/>
                    </Show>
                    <Show when=move || is(Choice::Beams)>
                        <Number label="Beams" id="beams" low=2.0 high=10.0 step=1.0 hint="Texts that are followed at once" get=|s| s.beams as f64 set=|s, v| s.beams = v as usize/>
                        <Number label="Length penalty" id="length-penalty" low=-5.0 high=5.0 step=0.1 hint="Above 0 long texts are preferred" get=|s| f64::from(s.length_penalty) set=|s, v| s.length_penalty = v as f32/>
                    </Show>
                    <Number label="Longest answer, tokens" id="most" low=1.0 high=2048.0 step=1.0 get=|s| s.most as f64 set=|s, v| s.most = v as usize/>
                    <Number label="Repetition penalty" id="repetition" low=1.0 high=3.0 step=0.05 hint="Above 1, words that stand there already become less likely" get=|s| f64::from(s.repetition_penalty) set=|s, v| s.repetition_penalty = v as f32/>
                    <Stops/>
                </Show>
                <h3>"Clips"</h3>
                <Number label="Frames in a second" id="frame-rate" low=0.1 high=30.0 step=0.1 hint="Of the clips that are put in from now on; the number on a clip changes its own" get=|s| s.rate set=|s, v| s.rate = v/>
                <Number label="Most frames" id="frame-count" low=1.0 high=32.0 step=1.0 get=|s| s.frames as f64 set=|s, v| s.frames = v as usize/>
                <FrameNote/>
                <button type="button" class="quiet small" on:click=move |_| chat.settings.update(|s| *s = Settings { mode: s.mode, answers: std::mem::take(&mut s.answers), ..Settings::default() })>"As they were"</button>
            </details>
        </section>
    }
}

fn summary(settings: &Settings) -> String {
    if settings.mode == Mode::Score {
        return match settings.orders {
            1 => "compare answers".to_owned(),
            n => format!("compare, up to {n} orders"),
        };
    }
    match settings.choice {
        Choice::Greedy => format!("likeliest, {} tokens", settings.most),
        Choice::Sample => format!("by chance, temperature {:.2}", settings.temperature),
        Choice::Beams => format!("{} beams", settings.beams),
    }
}

/// What counts where answers are compared.
#[component]
fn Comparing() -> impl IntoView {
    let chat = chat();
    view! {
        <Number label="Orders of the examples" id="orders" low=1.0 high=6.0 step=1.0 hint="The mean over several orders depends less on any of them; the paper takes 6" get=|s| s.orders as f64 set=|s, v| s.orders = v as usize/>
        <label class="field">
            <span>"Compare by"</span>
            <select id="by" on:change=move |event| {
                let mean = event_target_value(&event) == "mean";
                chat.settings.update(|s| s.by_mean = mean);
            }>
                <option value="mean" selected=move || chat.settings.with(|s| s.by_mean)>"mean of a token"</option>
                <option value="sum" selected=move || chat.settings.with(|s| !s.by_mean)>"sum of the answer"</option>
            </select>
        </label>
    }
}

#[component]
fn Stops() -> impl IntoView {
    let chat = chat();
    let text = move || chat.settings.with(|s| s.stop.join("\n"));
    let change = move |event| {
        let text = event_target_value(&event);
        let lines = text.lines().filter(|line| !line.is_empty());
        let lines = lines.map(str::to_owned).collect();
        chat.settings.update(|s| s.stop = lines);
    };
    view! {
        <label class="field tall">
            <span>"Stop at, one on a line"</span>
            <textarea id="stop-strings" rows="2" prop:value=text on:change=change></textarea>
        </label>
    }
}

/// What the model makes of clips.
#[component]
pub(super) fn FrameNote() -> impl IntoView {
    let chat = chat();
    let said = move || {
        chat.writer().map(|writer| match writer.frames {
            0 | 1 => "This model takes the frames of a clip without their order.".to_owned(),
            n => format!("This model tells up to {n} frames apart."),
        })
    };
    view! { <p class="hint">{said}</p> }
}
