//! plume.
