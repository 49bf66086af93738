//! Numbers between bounds, and quantities with their units.

use super::{
    reader::{Node, Read, Reader},
    shape::{Shape, Text},
};
use crate::{ByteSize, Rate, Ratio, UnitError, parse_duration, problem::codes};
use std::time::Duration;
use toml::de::DeValue;

/// A whole number between bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole<const MIN: i64, const MAX: i64>(pub(crate) i64);

impl<const MIN: i64, const MAX: i64> Whole<MIN, MAX> {
    /// For bounds that are not negative and fit.
    pub(crate) fn get<T: TryFrom<i64, Error: std::fmt::Debug>>(self) -> T {
        T::try_from(self.0).expect("the bounds of the key fit its type")
    }
}

impl<const MIN: i64, const MAX: i64> Read for Whole<MIN, MAX> {
    fn shape() -> Shape {
        Shape::Whole { min: MIN, max: MAX }
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let DeValue::Integer(number) = node.value else { return r.wrong_type(node, &Self::shape()) };
        match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(value) if (MIN..=MAX).contains(&value) => Some(Self(value)),
            _ => {
                let key = r.key();
                r.found.error(codes::OUT_OF_RANGE, node.at, format!("`{key}` is {}, not {number}", Self::shape().expected()));
                None
            }
        }
    }
}

/// How many times its share an endpoint may carry, 1.0 being no more than that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factor(pub(crate) f64);

impl Read for Factor {
    fn shape() -> Shape {
        Shape::Number { min: 1.0, max: 100.0 }
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let number = match node.value {
            DeValue::Float(number) => number.as_str().replace('_', "").parse().ok(),
            DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok().map(|number| number as f64),
            _ => return r.wrong_type(node, &Self::shape()),
        };
        let valid = number.filter(|number| (1.0..=100.0).contains(number));
        if valid.is_none() {
            let key = r.key();
            r.found.error(codes::OUT_OF_RANGE, node.at, format!("`{key}` is {}", Self::shape().expected()));
        }
        valid.map(Self)
    }
}

/// Reads a quantity with its unit, and says what it is where there is no string.
fn quantity<T>(node: Node<'_>, r: &mut Reader<'_>, shape: &Shape, parse: fn(&str) -> Result<T, UnitError>) -> Option<T> {
    let text = r.text(node, shape)?;
    match parse(text) {
        Ok(value) => Some(value),
        Err(error) => {
            let key = r.key();
            r.found.error(codes::BAD_QUANTITY, node.at, format!("`{key}` is {}, not \"{text}\"", shape.expected())).help(error.0);
            None
        }
    }
}

fn duration_shape() -> Shape {
    Shape::Text(Text { what: "a duration", example: "250ms", pattern: Some("^[0-9]+ ?(ms|s|m|h|d)$") })
}

fn size_shape() -> Shape {
    Shape::Size { min: ByteSize(0), max: ByteSize(u64::MAX) }
}

/// Longer than nothing: a deadline of zero would refuse everything.
impl Read for Duration {
    fn shape() -> Shape {
        duration_shape()
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let duration = quantity(node, r, &Self::shape(), parse_duration)?;
        if duration.is_zero() {
            let key = r.key();
            r.found.error(codes::OUT_OF_RANGE, node.at, format!("`{key}` is longer than nothing"));
            return None;
        }
        Some(duration)
    }
}

/// A duration that may be nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pause(pub(crate) Duration);

impl Read for Pause {
    fn shape() -> Shape {
        duration_shape()
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        quantity(node, r, &Self::shape(), parse_duration).map(Self)
    }
}

/// A deadline that can be taken away again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Total(pub(crate) Option<Duration>);

impl Read for Total {
    fn shape() -> Shape {
        Shape::Any(vec![duration_shape(), Shape::Words(&["none"])])
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            DeValue::String(text) if text == "none" => Some(Self(None)),
            _ => Duration::read(node, r).map(|duration| Self(Some(duration))),
        }
    }
}

/// A size between bounds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size<const MIN: u64, const MAX: u64>(pub(crate) ByteSize);

impl<const MIN: u64, const MAX: u64> Read for Size<MIN, MAX> {
    fn shape() -> Shape {
        Shape::Size { min: ByteSize(MIN), max: ByteSize(MAX) }
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        let size = quantity(node, r, &Self::shape(), ByteSize::parse)?;
        if !(MIN..=MAX).contains(&size.0) {
            let key = r.key();
            let bounds = format!("between {} and {}", ByteSize(MIN), ByteSize(MAX));
            r.found.error(codes::OUT_OF_RANGE, node.at, format!("`{key}` is {bounds}, not {size}"));
            return None;
        }
        Some(Self(size))
    }
}

/// A size, or none that would be too large.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MaxBody(pub(crate) Option<ByteSize>);

impl Read for MaxBody {
    fn shape() -> Shape {
        Shape::Any(vec![size_shape(), Shape::Words(&["unlimited"])])
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        match node.value {
            DeValue::String(text) if text == "unlimited" => Some(Self(None)),
            _ => quantity(node, r, &Self::shape(), ByteSize::parse).map(|size| Self(Some(size))),
        }
    }
}

impl Read for Rate {
    fn shape() -> Shape {
        Shape::Text(Text { what: "a rate", example: "100/s", pattern: Some("^[0-9]+/(s|min|h|d|[0-9]+ ?(ms|s|m|h|d))$") })
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        quantity(node, r, &Self::shape(), Self::parse)
    }
}

impl Read for Ratio {
    fn shape() -> Shape {
        Shape::Text(Text { what: "a share", example: "20%", pattern: Some("^[0-9]+(\\.[0-9]+)?%$") })
    }

    fn read(node: Node<'_>, r: &mut Reader<'_>) -> Option<Self> {
        quantity(node, r, &Self::shape(), Self::parse)
    }
}
