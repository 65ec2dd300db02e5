//! The drawing pad: what is drawn is classified as it is drawn.

use leptos::html::Canvas;
use leptos::prelude::*;
use wasm_bindgen::JsCast;
use wasm_bindgen::prelude::*;
use web_sys::{Blob, CanvasRenderingContext2d, HtmlCanvasElement, PointerEvent};

use super::client;
use super::store::store;
use crate::protocol::PictureId;

/// Side of the pad's pixels.
const SIDE: u32 = 320;
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

/// Where on the canvas's own pixels a pointer is.
fn place(canvas: &HtmlCanvasElement, event: &PointerEvent) -> (f64, f64) {
    let shown = canvas.get_bounding_client_rect();
    let scale = f64::from(SIDE) / shown.width().max(1.0);
    (
        (f64::from(event.client_x()) - shown.left()) * scale,
        (f64::from(event.client_y()) - shown.top()) * scale,
    )
}

#[component]
pub(super) fn Pad() -> impl IntoView {
    let store = store();
    let canvas: NodeRef<Canvas> = NodeRef::new();
    let strokes = StoredValue::new(Vec::<Stroke>::new());
    let drawing = StoredValue::new(false);
    let shown = StoredValue::new(None::<PictureId>);
    let colour = RwSignal::new(COLOURS[0].1);
    let width = RwSignal::new(7.0f64);
    let empty = RwSignal::new(true);

    let repaint = move || {
        if let Some(canvas) = canvas.get_untracked() {
            strokes.with_value(|strokes| paint(&canvas, strokes));
        }
    };
    // The drawing as a picture takes the place of the one before.
    let classify = move || {
        empty.set(strokes.with_value(Vec::is_empty));
        if let Some(old) = shown.get_value() {
            client::remove(store, old);
            shown.set_value(None);
        }
        let Some(canvas) = canvas.get_untracked().filter(|_| !empty.get_untracked()) else {
            return;
        };
        let taken = Closure::once_into_js(move |blob: Option<Blob>| {
            if let Some(blob) = blob {
                shown.set_value(Some(client::add(store, "drawing.png", &blob)));
            }
        });
        let _ = canvas.to_blob(taken.unchecked_ref());
    };
    let down = move |event: PointerEvent| {
        let Some(canvas) = canvas.get_untracked() else {
            return;
        };
        event.prevent_default();
        let _ = canvas.set_pointer_capture(event.pointer_id());
        drawing.set_value(true);
        let stroke = Stroke {
            colour: colour.get_untracked(),
            width: width.get_untracked(),
            points: vec![place(&canvas, &event)],
        };
        strokes.update_value(|all| all.push(stroke));
        repaint();
    };
    let moved = move |event: PointerEvent| {
        let Some(canvas) = canvas.get_untracked().filter(|_| drawing.get_value()) else {
            return;
        };
        strokes.update_value(|all| {
            if let Some(stroke) = all.last_mut() {
                stroke.points.push(place(&canvas, &event));
            }
        });
        repaint();
    };
    let up = move |_: PointerEvent| {
        if drawing.get_value() {
            drawing.set_value(false);
            classify();
        }
    };
    let undo = move |_| {
        strokes.update_value(|all| {
            all.pop();
        });
        repaint();
        classify();
    };
    let clear = move |_| {
        strokes.update_value(Vec::clear);
        repaint();
        classify();
    };
    // Keep what was drawn, and begin a new one.
    let keep = move |_| {
        shown.set_value(None);
        strokes.update_value(Vec::clear);
        empty.set(true);
        repaint();
    };
    Effect::new(move |_| {
        if canvas.get().is_some() {
            repaint();
        }
    });
    view! {
        <div class="pad">
            <canvas
                id="pad-canvas"
                node_ref=canvas
                width=SIDE
                height=SIDE
                aria-label="Drawing pad: draw with mouse, pen or finger"
                role="img"
                on:pointerdown=down
                on:pointermove=moved
                on:pointerup=up
                on:pointercancel=up
            ></canvas>
            <div class="pad-tools">
                <fieldset class="swatches">
                    <legend class="unseen">"Colour"</legend>
                    {COLOURS.iter().map(|&(name, value)| view! {
                        <label class="swatch" style=format!("--swatch: {value}") title=name>
                            <input
                                type="radio"
                                name="colour"
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
                        on:input=move |event| width.set(event_target_value(&event).parse().unwrap_or(7.0))
                    />
                </label>
                <div class="row">
                    <button type="button" class="quiet" disabled=move || empty.get() on:click=undo>"Undo"</button>
                    <button type="button" class="quiet" disabled=move || empty.get() on:click=clear>"Clear"</button>
                    <button type="button" class="quiet" disabled=move || empty.get() on:click=keep>"Keep and draw another"</button>
                </div>
            </div>
        </div>
    }
}
