//! Input as it must not be: each kind is refused with its code and counted, and nobody else notices.

mod events;
mod floods;
mod frames;
mod http;
mod raw;
mod tokens;
