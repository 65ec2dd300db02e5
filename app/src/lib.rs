//! Plume in the browser. The page (`ui`) and the worker (`worker`) share
//! nothing but the [`protocol`]; the page's binary links no model.

#![expect(
    unreachable_pub,
    reason = "leptos' component macro makes its properties public"
)]

pub mod protocol;
pub mod ui;
pub mod worker;
