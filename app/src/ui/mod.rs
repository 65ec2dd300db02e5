//! The page.

mod app;
mod camera;
mod card;
mod chat;
mod client;
mod export;
mod findings;
mod flamingos;
mod header;
mod intake;
mod labels;
mod library;
mod link;
mod matrix;
mod offer;
mod pad;
mod pictures;
mod results;
mod store;
mod web;

pub use app::App;
