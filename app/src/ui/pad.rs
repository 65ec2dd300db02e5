//! The drawing pad: what is drawn is classified as it is drawn.

use leptos::html::Canvas;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use web_sys::{Blob, CanvasRenderingContext2d, HtmlCanvasElement, KeyboardEvent, PointerEvent};

use super::card::Verdict;
use super::client;
use super::store::{Picture, Status, Store, store};
use super::web::media;

/// Side of the pad's pixels.
const SIDE: u32 = 320;
const WIDTH: f64 = 7.0;
const COLOURS: &[(&str, &str)] = &[
    ("black", "#161616"),
    ("red", "#d61f26"),
    ("orange", "#f28c13"),
    ("yellow", "#f5c816"),
    ("green", "#1f8a3b"),
    ("blue", "#2563d9"),
    ("purple", "#7a2fb5"),
    ("pink", "#f277b0"),
    ("brown", "#704020"),
    ("white, to erase", "#ffffff"),
];

/// One stroke: its colour, its width and where it went.
#[derive(Clone)]
struct Stroke {
    colour: &'static str,
    width: f64,
    points: Vec<(f64, f64)>,
}

fn context(canvas: &HtmlCanvasElement) -> Option<CanvasRenderingContext2d> {
    canvas.get_context("2d").ok()??.dyn_into().ok()
}

fn paint(canvas: &HtmlCanvasElement, strokes: &[Stroke]) {
    let Some(context) = context(canvas) else {
        return;
    };
    let side = f64::from(SIDE);
    context.set_fill_style_str("#ffffff");
    context.fill_rect(0.0, 0.0, side, side);
    context.set_line_cap("round");
    context.set_line_join("round");
    for stroke in strokes {
        context.set_stroke_style_str(stroke.colour);
        context.set_line_width(stroke.width);
        context.begin_path();
        for (i, &(x, y)) in stroke.points.iter().enumerate() {
            if i == 0 {
                context.move_to(x, y);
                // A touch without a move leaves a dot.
                context.line_to(x + 0.1, y);
            } else {
                context.line_to(x, y);
            }
        }
        context.stroke();
    }
}

/// A drawing as it comes about.
#[derive(Clone, Copy)]
pub(super) struct Drawing {
    pub(super) canvas: NodeRef<Canvas>,
    strokes: StoredValue<Vec<Stroke>>,
    pub(super) empty: RwSignal<bool>,
}

impl Drawing {
    pub(super) fn new() -> Self {
        Self {
            canvas: NodeRef::new(),
            strokes: StoredValue::new(Vec::new()),
            empty: RwSignal::new(true),
        }
    }

    fn repaint(self) {
        if let Some(canvas) = self.canvas.get_untracked() {
            self.strokes.with_value(|strokes| paint(&canvas, strokes));
        }
        self.empty.set(self.strokes.with_value(Vec::is_empty));
    }

    pub(super) fn clear(self) {
        self.strokes.update_value(Vec::clear);
        self.repaint();
    }
}

/// Where on the canvas's own pixels a pointer is.
fn place(canvas: &HtmlCanvasElement, event: &PointerEvent) -> (f64, f64) {
    let shown = canvas.get_bounding_client_rect();
    let scale = f64::from(SIDE) / shown.width().max(1.0);
    (
        (f64::from(event.client_x()) - shown.left()) * scale,
        (f64::from(event.client_y()) - shown.top()) * scale,
    )
}

/// The drawing as a picture among the results, classified anew whenever the
/// worker has answered and more has been drawn.
#[derive(Clone, Copy)]
struct Live {
    store: Store,
    canvas: NodeRef<Canvas>,
    picture: RwSignal<Option<Picture>>,
    waiting: StoredValue<bool>,
    changed: StoredValue<bool>,
}

impl Live {
    fn new(store: Store, canvas: NodeRef<Canvas>) -> Self {
        let live = Self {
            store,
            canvas,
            picture: RwSignal::new(None),
            waiting: StoredValue::new(false),
            changed: StoredValue::new(false),
        };
        Effect::new(move |_| {
            let picture = live.picture.get();
            let busy = picture.is_some_and(|p| p.status.with(|status| *status == Status::Busy));
            if !busy {
                live.waiting.set_value(false);
                if live.changed.get_value() {
                    live.send();
                }
            }
        });
        live
    }

    /// Something was drawn.
    fn touch(self) {
        self.changed.set_value(true);
        if !self.waiting.get_value() {
            self.send();
        }
    }

    fn send(self) {
        let Some(canvas) = self.canvas.get_untracked() else {
            return;
        };
        self.changed.set_value(false);
        self.waiting.set_value(true);
        let taken = Closure::once_into_js(move |blob: Option<Blob>| {
            let Some(blob) = blob else { return };
            let known = self.picture.get_untracked();
            match known.filter(|picture| self.store.picture(picture.id).is_some()) {
                Some(picture) => client::replace(self.store, picture.id, &blob),
                None => {
                    let id = client::add(self.store, "drawing.png", &blob);
                    self.picture.set(self.store.picture(id));
                }
            }
        });
        let _ = canvas.to_blob(taken.unchecked_ref());
    }

    /// The picture stays as it is; the next stroke begins another.
    fn keep(self) {
        self.changed.set_value(false);
        self.picture.set(None);
    }

    fn drop_picture(self) {
        let picture = self.picture.get_untracked();
        self.keep();
        if let Some(picture) = picture {
            client::remove(self.store, picture.id);
        }
    }
}

/// The pad, folded away on a phone until it is asked for.
#[component]
pub(super) fn PadPanel() -> impl IntoView {
    let open = !media("(max-width: 60rem)");
    view! {
        <section class="panel" aria-labelledby="pad-title">
            <details class="fold" open=open>
                <summary><h2 id="pad-title">"Draw one"</h2> <span class="hint">"classified as you draw"</span></summary>
                <Pad/>
            </details>
        </section>
    }
}

#[component]
fn Pad() -> impl IntoView {
    let drawing = Drawing::new();
    let live = Live::new(store(), drawing.canvas);
    let changed = move |()| {
        if drawing.empty.get_untracked() {
            live.drop_picture();
        } else {
            live.touch();
        }
    };
    let keep = move |_| {
        live.keep();
        drawing.clear();
    };
    let says = move || {
        live.picture
            .get()
            .map(|picture| view! { <Verdict picture/> })
    };
    view! {
        <div class="pad">
            <Sheet drawing id="pad-canvas" changed=Callback::new(changed) says=says.into()>
                <button type="button" class="quiet small" disabled=move || drawing.empty.get() on:click=keep>"Keep, draw another"</button>
            </Sheet>
        </div>
    }
}

/// What one draws on, and with; `says` stands between the two, and the
/// children beside the buttons.
#[component]
#[expect(
    clippy::needless_pass_by_value,
    reason = "leptos passes properties by value"
)]
pub(super) fn Sheet(
    drawing: Drawing,
    id: &'static str,
    changed: Callback<()>,
    #[prop(optional)] says: ViewFn,
    children: Children,
) -> impl IntoView {
    let Drawing {
        canvas,
        strokes,
        empty,
    } = drawing;
    let drawn = StoredValue::new(false);
    let colour = RwSignal::new(COLOURS[0].1);
    let width = RwSignal::new(WIDTH);

    let changed = move || {
        drawing.repaint();
        changed.run(());
    };
    let down = move |event: PointerEvent| {
        let Some(canvas) = canvas.get_untracked() else {
            return;
        };
        event.prevent_default();
        let _ = canvas.set_pointer_capture(event.pointer_id());
        drawn.set_value(true);
        let stroke = Stroke {
            colour: colour.get_untracked(),
            width: width.get_untracked(),
            points: vec![place(&canvas, &event)],
        };
        strokes.update_value(|all| all.push(stroke));
        changed();
    };
    let moved = move |event: PointerEvent| {
        let Some(canvas) = canvas.get_untracked().filter(|_| drawn.get_value()) else {
            return;
        };
        strokes.update_value(|all| {
            if let Some(stroke) = all.last_mut() {
                stroke.points.push(place(&canvas, &event));
            }
        });
        changed();
    };
    let up = move |_: PointerEvent| drawn.set_value(false);
    let undo = move || {
        strokes.update_value(|all| {
            all.pop();
        });
        changed();
    };
    let clear = move |_| {
        strokes.update_value(Vec::clear);
        changed();
    };
    let key = move |event: KeyboardEvent| {
        if event.key() == "z" && (event.ctrl_key() || event.meta_key()) {
            event.prevent_default();
            undo();
        }
    };
    Effect::new(move |_| {
        if canvas.get().is_some() {
            drawing.repaint();
        }
    });
    view! {
        <canvas
            id=id
            node_ref=canvas
            width=SIDE
            height=SIDE
            aria-label="Drawing pad: draw with mouse, pen or finger"
            role="img"
            tabindex="0"
            on:keydown=key
            on:pointerdown=down
            on:pointermove=moved
            on:pointerup=up
            on:pointercancel=up
        ></canvas>
        <div class="pad-says" aria-hidden="true">
            {says.run()}
        </div>
        <div class="pad-tools">
            <fieldset class="swatches">
                <legend class="unseen">"Colour"</legend>
                {COLOURS.iter().map(|&(name, value)| view! {
                    <label class="swatch" style=format!("--swatch: {value}") title=name>
                        <input
                            type="radio"
                            name=format!("{id}-colour")
                            aria-label=name
                            prop:checked=move || colour.get() == value
                            on:change=move |_| colour.set(value)
                        />
                        <span aria-hidden="true"></span>
                    </label>
                }).collect_view()}
            </fieldset>
            <label class="width">
                <span>"Width"</span>
                <input
                    type="range"
                    min="2"
                    max="40"
                    prop:value=move || width.get().to_string()
                    on:input=move |event| width.set(event_target_value(&event).parse().unwrap_or(WIDTH))
                />
            </label>
            <div class="row">
                <button type="button" class="quiet small" disabled=move || empty.get() on:click=move |_| undo()>"Undo"</button>
                <button type="button" class="quiet small" disabled=move || empty.get() on:click=clear>"Clear"</button>
                {children()}
            </div>
        </div>
    }
}
