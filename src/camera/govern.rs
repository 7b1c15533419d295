//! Controls that others govern: while focus is automatic, its distance cannot be set. Numbers and names of controls are no
//! order of dependence (V4L2's `FOCUS_ABSOLUTE` is less than its `FOCUS_AUTO`), so it is written down here.

use v4l2r::bindings;

use super::control::{Control, Value};

/// V4L2's controls are known by their number, libcamera's by their name.
#[derive(Clone, Copy, Debug)]
enum Key {
    Id(u32),
    Name(&'static str),
}

impl Key {
    fn is(self, control: &Control) -> bool {
        match self {
            Self::Id(id) => control.id == id,
            Self::Name(name) => control.name == name,
        }
    }
}

/// A control, and another one that says whether it counts.
#[derive(Clone, Copy, Debug)]
struct Rule {
    governed: Key,
    governor: Key,
    /// The governor's values with which the governed one can be set; with several governors one of them will do.
    allows: &'static [i64],
    /// libcamera only: what is set all the same is passed over in silence.
    ignored: bool,
}

const fn v4l2(governed: u32, governor: u32, allows: &'static [i64]) -> Rule {
    Rule { governed: Key::Id(governed), governor: Key::Id(governor), allows, ignored: false }
}

const fn libcamera(governed: &'static str, governor: &'static str, allows: &'static [i64], ignored: bool) -> Rule {
    Rule { governed: Key::Name(governed), governor: Key::Name(governor), allows, ignored }
}

const OFF: &[i64] = &[0];
const ON: &[i64] = &[1];
/// `V4L2_EXPOSURE_MANUAL` and `V4L2_EXPOSURE_SHUTTER_PRIORITY`.
const TIME_BY_HAND: &[i64] = &[1, 2];
/// `V4L2_EXPOSURE_MANUAL` and `V4L2_EXPOSURE_APERTURE_PRIORITY`.
const IRIS_BY_HAND: &[i64] = &[1, 3];

/// uvcvideo's `master_id`, the kernel's ext-ctrls-camera.rst and control.rst, libcamera's `control_ids_core.yaml`.
const RULES: &[Rule] = &[
    v4l2(bindings::V4L2_CID_EXPOSURE_ABSOLUTE, bindings::V4L2_CID_EXPOSURE_AUTO, TIME_BY_HAND),
    v4l2(bindings::V4L2_CID_EXPOSURE, bindings::V4L2_CID_EXPOSURE_AUTO, TIME_BY_HAND),
    v4l2(bindings::V4L2_CID_IRIS_ABSOLUTE, bindings::V4L2_CID_EXPOSURE_AUTO, IRIS_BY_HAND),
    v4l2(bindings::V4L2_CID_IRIS_RELATIVE, bindings::V4L2_CID_EXPOSURE_AUTO, IRIS_BY_HAND),
    v4l2(bindings::V4L2_CID_FOCUS_ABSOLUTE, bindings::V4L2_CID_FOCUS_AUTO, OFF),
    v4l2(bindings::V4L2_CID_FOCUS_RELATIVE, bindings::V4L2_CID_FOCUS_AUTO, OFF),
    v4l2(bindings::V4L2_CID_AUTO_FOCUS_START, bindings::V4L2_CID_FOCUS_AUTO, OFF),
    v4l2(bindings::V4L2_CID_AUTO_FOCUS_STOP, bindings::V4L2_CID_FOCUS_AUTO, OFF),
    v4l2(bindings::V4L2_CID_WHITE_BALANCE_TEMPERATURE, bindings::V4L2_CID_AUTO_WHITE_BALANCE, OFF),
    v4l2(bindings::V4L2_CID_WHITE_BALANCE_TEMPERATURE, bindings::V4L2_CID_AUTO_N_PRESET_WHITE_BALANCE, OFF),
    v4l2(bindings::V4L2_CID_RED_BALANCE, bindings::V4L2_CID_AUTO_WHITE_BALANCE, OFF),
    v4l2(bindings::V4L2_CID_RED_BALANCE, bindings::V4L2_CID_AUTO_N_PRESET_WHITE_BALANCE, OFF),
    v4l2(bindings::V4L2_CID_BLUE_BALANCE, bindings::V4L2_CID_AUTO_WHITE_BALANCE, OFF),
    v4l2(bindings::V4L2_CID_BLUE_BALANCE, bindings::V4L2_CID_AUTO_N_PRESET_WHITE_BALANCE, OFF),
    v4l2(bindings::V4L2_CID_DO_WHITE_BALANCE, bindings::V4L2_CID_AUTO_WHITE_BALANCE, OFF),
    v4l2(bindings::V4L2_CID_GAIN, bindings::V4L2_CID_AUTOGAIN, OFF),
    v4l2(bindings::V4L2_CID_ANALOGUE_GAIN, bindings::V4L2_CID_AUTOGAIN, OFF),
    v4l2(bindings::V4L2_CID_HUE, bindings::V4L2_CID_HUE_AUTO, OFF),
    v4l2(bindings::V4L2_CID_BRIGHTNESS, bindings::V4L2_CID_AUTOBRIGHTNESS, OFF),
    v4l2(bindings::V4L2_CID_CHROMA_GAIN, bindings::V4L2_CID_CHROMA_AGC, OFF),
    v4l2(bindings::V4L2_CID_ISO_SENSITIVITY, bindings::V4L2_CID_ISO_SENSITIVITY_AUTO, OFF),
    // "Manual" is 1 in libcamera's modes of exposure and gain and 0 in that of focus; AeEnable stands for both of the first.
    libcamera("ExposureTime", "ExposureTimeMode", ON, true),
    libcamera("ExposureTime", "AeEnable", OFF, false),
    libcamera("AnalogueGain", "AnalogueGainMode", ON, true),
    libcamera("AnalogueGain", "AeEnable", OFF, false),
    libcamera("LensPosition", "AfMode", OFF, true),
    libcamera("AfTrigger", "AfMode", ON, false),
    libcamera("AfPause", "AfMode", &[2], false),
    libcamera("AfWindows", "AfMetering", ON, false),
    libcamera("ColourGains", "AwbEnable", OFF, false),
    libcamera("ColourTemperature", "AwbEnable", OFF, false),
    libcamera("ColourCorrectionMatrix", "AwbEnable", OFF, false),
    libcamera("AeFlickerPeriod", "AeFlickerMode", ON, false),
];

fn rules_of(control: &Control) -> impl Iterator<Item = &'static Rule> {
    RULES.iter().filter(move |rule| rule.governed.is(control))
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Bool(value) => Some(i64::from(*value)),
        Value::Integer(value) => Some(*value),
        _ => None,
    }
}

impl Rule {
    fn allows(&self, value: &Value) -> bool {
        number(value).is_some_and(|value| self.allows.contains(&value))
    }
}

/// True if `values` themselves bring a control into a state in which it does not count.
fn is_moot(control: &Control, values: &[(Control, Value)]) -> bool {
    let mut governors = rules_of(control)
        .flat_map(|rule| values.iter().filter(|(other, _)| rule.governor.is(other)).map(move |v| (rule, v)));
    let Some(first) = governors.next() else { return false };
    std::iter::once(first).chain(governors).all(|(rule, (_, value))| !rule.allows(value))
}

/// Brings values into the order in which they can be set: what governs before what is governed; but where what governs
/// becomes automatic, after.
pub fn order(values: &mut [(Control, Value)]) {
    let all = values.to_vec();
    values.sort_by_key(|(control, _)| {
        let rank = match (rules_of(control).next(), is_moot(control, &all)) {
            (None, _) => 1,
            (Some(_), false) => 2,
            (Some(_), true) => 0,
        };
        (rank, control.id)
    });
}

/// Leaves out what does not count with the other values: a distance remembered from before focus became automatic.
pub fn leave_out_moot(values: &mut Vec<(Control, Value)>) {
    let all = values.clone();
    values.retain(|(control, _)| !is_moot(control, &all));
}

/// What to do so that a control can be set, in words that go on a sentence; `None` where no other control is in the way.
pub fn remedy(known: &[Control], control: &Control) -> Option<String> {
    let in_the_way = |rule: &Rule| -> Option<&Control> {
        let governor = known.iter().find(|other| rule.governor.is(other))?;
        let value = governor.value.as_ref().or(governor.default.as_ref())?;
        (!rule.allows(value)).then_some(governor)
    };
    let known_rules: Vec<&Rule> =
        rules_of(control).filter(|rule| known.iter().any(|other| rule.governor.is(other))).collect();
    if known_rules.iter().any(|rule| in_the_way(rule).is_none()) {
        return None;
    }
    let rule = known_rules.first()?;
    let governor = in_the_way(rule)?;
    let names: Vec<&str> = governor
        .options
        .iter()
        .filter(|(value, _)| rule.allows.contains(value))
        .map(|(_, name)| name.as_str())
        .collect();
    let value = match (&governor.value, names.is_empty()) {
        (Some(Value::Bool(_)), _) => (rule.allows == ON).to_string(),
        (_, false) => names.join(" or "),
        (_, true) => rule.allows.first()?.to_string(),
    };
    Some(format!("set {:?} to {value} first", governor.name))
}

/// The first of `values` (in their [`order`]) that the camera would pass over in silence.
pub fn first_ignored<'a>(
    known: &[Control],
    values: &'a [(Control, Value)],
) -> Option<(&'a Control, &'a Value, String)> {
    let mut state = known.to_vec();
    for (control, value) in values {
        let counts = rules_of(control).any(|rule| rule.ignored && state.iter().any(|other| rule.governor.is(other)));
        if let Some(remedy) = remedy(&state, control).filter(|_| counts) {
            return Some((control, value, remedy));
        }
        if let Some(known) = state.iter_mut().find(|other| other.id == control.id) {
            known.value = Some(value.clone());
        }
    }
    None
}

/// Values that cannot be set together with those before them have to wait for a later request.
pub fn stages(values: &[(Control, Value)]) -> impl Iterator<Item = &[(Control, Value)]> {
    values.chunk_by(|(one, _), (other, _)| rules_of(one).next().is_some() == rules_of(other).next().is_some())
}

/// Why several values were not set.
#[derive(Debug)]
pub struct Refused<E> {
    /// Which of them the camera refused.
    pub at: usize,
    /// With what.
    pub error: E,
    /// Those before it that could not be set back to what they were.
    pub stuck: Vec<String>,
}

/// Sets values one after the other, all or none: where one is refused, those before it are set back.
pub fn set_all<E>(
    values: &[(Control, Value)],
    mut set: impl FnMut(&Control, &Value) -> Result<(), E>,
) -> Result<(), Refused<E>> {
    for (at, (control, value)) in values.iter().enumerate() {
        let Err(error) = set(control, value) else { continue };
        let mut stuck = Vec::new();
        // The last first: what governs goes back when what it governs is back.
        for (control, value) in values[..at].iter().rev() {
            let is_back = match &control.value {
                Some(before) if before == value => true,
                Some(before) => set(control, before).is_ok(),
                None => false,
            };
            if !is_back {
                stuck.push(control.name.clone());
            }
        }
        return Err(Refused { at, error, stuck });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
