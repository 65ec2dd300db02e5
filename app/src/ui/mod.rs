//! The page.

mod app;
mod card;
mod client;
mod export;
mod intake;
mod labels;
mod link;
mod matrix;
mod pad;
mod store;
mod web;

pub use app::App;
