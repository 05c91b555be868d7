//! The unary services, as back ends, operators and tools call them.

mod connections;
mod standard;
mod topics;
