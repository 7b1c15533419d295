//! Controls that were set and not yet sent. A camera that takes them with its requests gets them in stages.

use super::control::{Control, Value};
use super::govern;

/// Values on their way to a camera, each control once.
///
/// A governed control goes one request behind the control that governs it: the order in which a driver sees the controls of
/// one request is not defined. However often values are set, at most three stages are left.
#[derive(Clone, Debug, Default)]
pub struct Pending {
    /// In the order in which they can be set.
    values: Vec<(Control, Value)>,
}

impl Pending {
    /// Adds values; of two for one control the later counts.
    pub fn set(&mut self, values: &[(Control, Value)]) {
        for (control, value) in values {
            self.values.retain(|(other, _)| other.id != control.id);
            self.values.push((control.clone(), value.clone()));
        }
        // All anew: a mode set again comes before what it governs, also where that has waited longer.
        govern::order(&mut self.values);
    }

    /// Takes the values for the next request; empty if none wait.
    pub fn next_stage(&mut self) -> Vec<(Control, Value)> {
        let length = govern::stages(&self.values).next().map_or(0, <[_]>::len);
        self.values.drain(..length).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::control::Kind;
    use super::*;

    fn value(id: u32, name: &str, value: i64) -> (Control, Value) {
        (Control::new(id, name, Kind::Integer), Value::Integer(value))
    }

    /// The governed control has the lower number.
    fn time(micros: i64) -> (Control, Value) {
        value(1, "ExposureTime", micros)
    }

    fn mode(manual: i64) -> (Control, Value) {
        value(2, "ExposureTimeMode", manual)
    }

    fn brightness(number: i64) -> (Control, Value) {
        value(3, "Brightness", number)
    }

    /// What each request takes, until nothing is left.
    fn sent(pending: &mut Pending) -> Vec<Vec<(String, Value)>> {
        let stages = std::iter::from_fn(|| Some(pending.next_stage()).filter(|stage| !stage.is_empty()));
        stages.map(|stage| stage.into_iter().map(|(control, value)| (control.name, value)).collect()).collect()
    }

    fn named(values: &[(Control, Value)]) -> Vec<(String, Value)> {
        values.iter().map(|(control, value)| (control.name.clone(), value.clone())).collect()
    }

    #[test]
    fn a_flood_leaves_the_last_values_in_three_stages_at_most() {
        let mut pending = Pending::default();
        for i in 0..1000 {
            pending.set(&[mode(i % 2), time(i)]);
            pending.set(&[brightness(i)]);
            assert!(sent(&mut pending.clone()).len() <= 3, "{i}: {pending:?}");
        }
        assert_eq!(sent(&mut pending), [named(&[mode(1), brightness(999)]), named(&[time(999)])]);
        assert!(pending.next_stage().is_empty());
    }

    #[test]
    fn a_mode_set_again_stays_before_what_it_governs() {
        let mut pending = Pending::default();
        pending.set(&[mode(1), time(10_000)]);
        pending.set(&[mode(1)]);
        assert_eq!(sent(&mut pending), [named(&[mode(1)]), named(&[time(10_000)])]);
        // Half of it is with the camera already.
        pending.set(&[mode(1), time(10_000)]);
        assert_eq!(pending.next_stage().len(), 1);
        pending.set(&[brightness(7)]);
        assert_eq!(sent(&mut pending), [named(&[brightness(7)]), named(&[time(10_000)])]);
    }

    #[test]
    fn what_becomes_automatic_does_so_last() {
        let mut pending = Pending::default();
        pending.set(&[mode(1), time(10_000)]);
        pending.set(&[mode(0)]);
        assert_eq!(sent(&mut pending), [named(&[time(10_000)]), named(&[mode(0)])]);
    }
}
