//! What a person asks for, in terms of the models.

pub mod agreement;
pub mod chat;
pub mod classify;
pub mod generate;
pub mod metrics;
pub mod score;
pub mod verify;
pub mod writer;
