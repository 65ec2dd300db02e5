//! What a person asks for, in terms of the models.

pub mod classify;
pub mod verify;
