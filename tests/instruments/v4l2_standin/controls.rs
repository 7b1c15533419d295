//! A control handler: the rules of `drivers/media/v4l2-core/v4l2-ctrls-{api,core}.c`.

use std::ffi::c_int;

use crate::sys::{
    self, v4l2_control, v4l2_ext_control, v4l2_ext_controls, v4l2_query_ext_ctrl, v4l2_queryctrl, v4l2_querymenu,
};
use crate::violation;

/// `V4L2_CTRL_ID_MASK`.
const ID_MASK: u32 = 0x0fff_ffff;

/// A control.
#[derive(Debug, Clone)]
pub struct Control {
    /// `V4L2_CID_…`.
    pub id: u32,
    /// Its name.
    pub name: &'static str,
    kind: u32,
    minimum: i64,
    maximum: i64,
    step: u64,
    default: i64,
    flags: u32,
    menu: &'static [&'static str],
    values: &'static [i64],
    /// Another control, and the value of that with which this one can be set (uvcvideo's `master_id`, `master_manual`).
    master: Option<(u32, i64)>,
    /// Present value.
    pub value: i64,
}

impl Control {
    /// A number.
    pub const fn integer(id: u32, name: &'static str, range: [i64; 2], step: u64, default: i64) -> Self {
        let [minimum, maximum] = range;
        let kind = sys::CTRL_TYPE_INTEGER;
        Self {
            id,
            name,
            kind,
            minimum,
            maximum,
            step,
            default,
            flags: 0,
            menu: &[],
            values: &[],
            master: None,
            value: default,
        }
    }

    /// A switch.
    pub const fn boolean(id: u32, name: &'static str, default: i64) -> Self {
        let mut control = Self::integer(id, name, [0, 1], 1, default);
        control.kind = sys::CTRL_TYPE_BOOLEAN;
        control
    }

    /// One of several words; an empty word is none.
    pub const fn menu(id: u32, name: &'static str, menu: &'static [&'static str], default: i64) -> Self {
        let mut control = Self::integer(id, name, [0, menu.len() as i64 - 1], 1, default);
        control.kind = sys::CTRL_TYPE_MENU;
        control.menu = menu;
        control
    }

    /// One of several numbers.
    pub const fn integer_menu(id: u32, name: &'static str, values: &'static [i64], default: i64) -> Self {
        let mut control = Self::integer(id, name, [0, values.len() as i64 - 1], 1, default);
        control.kind = sys::CTRL_TYPE_INTEGER_MENU;
        control.values = values;
        control
    }

    /// Something to press.
    pub const fn button(id: u32, name: &'static str) -> Self {
        let mut control = Self::integer(id, name, [0, 0], 0, 0);
        control.kind = sys::CTRL_TYPE_BUTTON;
        control.flags = sys::CTRL_FLAG_WRITE_ONLY | sys::CTRL_FLAG_EXECUTE_ON_WRITE;
        control
    }

    /// A wide number.
    pub const fn integer64(id: u32, name: &'static str, range: [i64; 2], step: u64, default: i64) -> Self {
        let mut control = Self::integer(id, name, range, step, default);
        control.kind = sys::CTRL_TYPE_INTEGER64;
        control
    }

    /// With these flags too.
    pub const fn flags(mut self, flags: u32) -> Self {
        self.flags |= flags;
        self
    }

    /// Settable only while another control has this value; inactive otherwise.
    pub const fn governed(mut self, master: u32, manual: i64) -> Self {
        self.master = Some((master, manual));
        self
    }

    const fn class(id: u32, name: &'static str) -> Self {
        let mut control = Self::integer(id, name, [0, 0], 0, 0);
        control.kind = sys::CTRL_TYPE_CTRL_CLASS;
        control.flags = sys::CTRL_FLAG_READ_ONLY | sys::CTRL_FLAG_WRITE_ONLY;
        control
    }

    fn is_wide(&self) -> bool {
        self.kind == sys::CTRL_TYPE_INTEGER64
    }

    /// `is_int`: `G_CTRL` and `S_CTRL` work.
    fn is_int(&self) -> bool {
        !matches!(self.kind, sys::CTRL_TYPE_INTEGER64 | sys::CTRL_TYPE_STRING | sys::CTRL_TYPE_CTRL_CLASS)
    }

    /// `std_validate_elem`: a number is brought into its range, a choice that does not exist is an error.
    fn validate(&self, value: i64) -> Result<i64, c_int> {
        match self.kind {
            sys::CTRL_TYPE_INTEGER | sys::CTRL_TYPE_INTEGER64 => {
                // ROUND_TO_RANGE
                let half = (self.step / 2) as i64;
                let value = if self.maximum >= 0 && value >= self.maximum - half { self.maximum } else { value + half };
                let offset = (value.clamp(self.minimum, self.maximum) - self.minimum) as u64;
                Ok(self.minimum + (offset / self.step.max(1) * self.step) as i64)
            }
            sys::CTRL_TYPE_BOOLEAN => Ok(i64::from(value != 0)),
            sys::CTRL_TYPE_MENU | sys::CTRL_TYPE_INTEGER_MENU => {
                if value < self.minimum || value > self.maximum {
                    return Err(libc::ERANGE);
                }
                let missing = self.kind == sys::CTRL_TYPE_MENU && self.menu[value as usize].is_empty();
                if missing { Err(libc::EINVAL) } else { Ok(value) }
            }
            sys::CTRL_TYPE_BUTTON => Ok(0),
            _ => Err(libc::EINVAL),
        }
    }
}

/// All controls of an opening.
#[derive(Debug)]
pub struct Handler {
    controls: Vec<Control>,
}

/// What to do with several controls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Many {
    /// `G_EXT_CTRLS`.
    Get,
    /// `TRY_EXT_CTRLS`.
    Try,
    /// `S_EXT_CTRLS`.
    Set,
}

impl Handler {
    /// With these controls, and the classes they need.
    pub fn new(mut controls: Vec<Control>) -> Self {
        let classes = [
            (sys::CTRL_CLASS_USER, "User Controls"),
            (sys::CTRL_CLASS_CODEC, "Codec Controls"),
            (sys::CTRL_CLASS_CAMERA, "Camera Controls"),
            (sys::CTRL_CLASS_JPEG, "JPEG Compression Controls"),
        ];
        for (class, name) in classes {
            if controls.iter().any(|control| control.id & 0x0fff_0000 == class) {
                controls.push(Control::class(class | 1, name));
            }
        }
        controls.sort_by_key(|control| control.id);
        Self { controls }
    }

    fn find(&mut self, id: u32) -> Option<&mut Control> {
        self.controls.iter_mut().find(|control| control.id == id & ID_MASK)
    }

    /// Present value of a control, 0 if there is none.
    pub fn value(&self, id: u32) -> i64 {
        self.controls.iter().find(|control| control.id == id).map_or(0, |control| control.value)
    }

    /// `v4l2_query_ext_ctrl`; all our controls are plain, so compound ones are never found.
    fn query(&self, id: u32) -> Result<&Control, c_int> {
        let next = id & (sys::CTRL_FLAG_NEXT_CTRL | sys::CTRL_FLAG_NEXT_COMPOUND);
        let id = id & ID_MASK;
        let found = match next {
            0 => self.controls.iter().find(|control| control.id == id),
            sys::CTRL_FLAG_NEXT_COMPOUND => None,
            _ => self.controls.iter().find(|control| control.id > id),
        };
        found.ok_or(libc::EINVAL)
    }

    /// `uvc_ctrl_is_accessible` since 5.17: the value of the master, in the same call or in force, says whether it can be set.
    fn is_governed(&self, control: &Control, others: &[v4l2_ext_control]) -> bool {
        let Some((master, manual)) = control.master else { return false };
        // SAFETY: masters are plain numbers, so the client filled this member.
        let given = others.iter().find(|other| other.id == master).map(|other| unsafe { other.value.value });
        given.map_or_else(|| self.value(master), i64::from) != manual
    }

    /// With what the governing controls make of it.
    fn flags_of(&self, control: &Control) -> u32 {
        control.flags | if self.is_governed(control, &[]) { sys::CTRL_FLAG_INACTIVE } else { 0 }
    }

    /// `QUERYCTRL`.
    pub fn queryctrl(&self, query: &mut v4l2_queryctrl) -> Result<(), c_int> {
        let control = self.query(query.id)?;
        *query = sys::zeroed();
        query.id = control.id;
        query.type_ = control.kind;
        sys::put(&mut query.name, control.name);
        query.flags = self.flags_of(control);
        if control.is_int() && control.kind != sys::CTRL_TYPE_BUTTON {
            query.minimum = control.minimum as i32;
            query.maximum = control.maximum as i32;
            query.step = control.step as i32;
            query.default_value = control.default as i32;
        }
        Ok(())
    }

    /// `QUERY_EXT_CTRL`.
    pub fn query_ext_ctrl(&self, query: &mut v4l2_query_ext_ctrl) -> Result<(), c_int> {
        let control = self.query(query.id)?;
        *query = sys::zeroed();
        query.id = control.id;
        query.type_ = control.kind;
        sys::put(&mut query.name, control.name);
        query.flags = self.flags_of(control);
        query.minimum = control.minimum;
        query.maximum = control.maximum;
        query.step = control.step;
        query.default_value = control.default;
        query.elem_size = if control.is_wide() { 8 } else { 4 };
        query.elems = 1;
        Ok(())
    }

    /// `QUERYMENU`.
    pub fn querymenu(&mut self, query: &mut v4l2_querymenu) -> Result<(), c_int> {
        let index = query.index as usize;
        let control = self.find(query.id).ok_or(libc::EINVAL)?;
        query.reserved = 0;
        match control.kind {
            sys::CTRL_TYPE_MENU => {
                let word = control.menu.get(index).filter(|word| !word.is_empty()).ok_or(libc::EINVAL)?;
                sys::put(&mut query.name, word);
            }
            sys::CTRL_TYPE_INTEGER_MENU => {
                let value = control.values.get(index).ok_or(libc::EINVAL)?;
                query.name[..8].copy_from_slice(&value.to_ne_bytes());
            }
            _ => return Err(libc::EINVAL),
        }
        Ok(())
    }

    /// `G_CTRL`.
    pub fn get(&mut self, control: &mut v4l2_control) -> Result<(), c_int> {
        let known = self.find(control.id).filter(|known| known.is_int()).ok_or(libc::EINVAL)?;
        if known.flags & sys::CTRL_FLAG_WRITE_ONLY != 0 {
            return Err(libc::EACCES);
        }
        control.value = known.value as i32;
        Ok(())
    }

    /// `S_CTRL`; gives the control as it is now.
    pub fn set(&mut self, control: &mut v4l2_control) -> Result<Control, c_int> {
        let governed = self.query(control.id).is_ok_and(|known| self.is_governed(known, &[]));
        let known = self.find(control.id).filter(|known| known.is_int()).ok_or(libc::EINVAL)?;
        if governed || known.flags & (sys::CTRL_FLAG_READ_ONLY | sys::CTRL_FLAG_DISABLED) != 0 {
            return Err(libc::EACCES);
        }
        if known.flags & sys::CTRL_FLAG_GRABBED != 0 {
            return Err(libc::EBUSY);
        }
        known.value = known.validate(i64::from(control.value))?;
        control.value = known.value as i32;
        Ok(known.clone())
    }

    /// `G_EXT_CTRLS`, `TRY_EXT_CTRLS`, `S_EXT_CTRLS`; gives the controls set.
    pub fn many(&mut self, list: &mut v4l2_ext_controls, what: Many) -> Result<Vec<Control>, c_int> {
        let count = list.count;
        list.error_idx = count;
        let defaults = list.which == sys::CTRL_WHICH_DEF_VAL;
        if defaults && what != Many::Get {
            return Err(libc::EINVAL);
        }
        if count == 0 {
            // class_check
            let known = list.which == 0 || defaults || self.find(list.which | 1).is_some();
            return if known { Ok(Vec::new()) } else { Err(libc::EINVAL) };
        }
        if list.controls.is_null() || count > 1024 {
            violation!("{count} extended controls at {:p}", list.controls);
        }
        // SAFETY: the client says that `count` controls are there.
        let items: &mut [v4l2_ext_control] = unsafe { std::slice::from_raw_parts_mut(list.controls, count as usize) };
        // prepare_ext_ctrls: an error here leaves error_idx at count when setting.
        let mut new = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let wrong_class = list.which != 0 && !defaults && item.id & 0x0fff_0000 != list.which;
            let known = self.find(item.id).filter(|known| known.flags & sys::CTRL_FLAG_DISABLED == 0);
            let Some(known) = known.filter(|_| !wrong_class).cloned() else {
                if what != Many::Set {
                    list.error_idx = index as u32;
                }
                return Err(libc::EINVAL);
            };
            let value = item.value;
            // SAFETY: the member that belongs to the control's type; the client filled it, or it is not used.
            let value = unsafe { if known.is_wide() { value.value64 } else { i64::from(value.value) } };
            let forbidden = if what == Many::Get { sys::CTRL_FLAG_WRITE_ONLY } else { sys::CTRL_FLAG_READ_ONLY };
            let governed = what != Many::Get && self.query(item.id).is_ok_and(|known| self.is_governed(known, items));
            let outcome = if governed || known.flags & forbidden != 0 {
                Err(libc::EACCES)
            } else if what == Many::Get {
                Ok(if defaults { known.default } else { known.value })
            } else {
                known.validate(value)
            };
            match outcome {
                Ok(value) => new.push(value),
                Err(error) => {
                    if what != Many::Set {
                        list.error_idx = index as u32;
                    }
                    return Err(error);
                }
            }
        }
        let mut set = Vec::new();
        for (item, value) in items.iter_mut().zip(new) {
            let Some(known) = self.find(item.id) else { continue };
            item.value = if known.is_wide() {
                sys::ControlUnion { value64: value }
            } else {
                sys::ControlUnion { value: value as i32 }
            };
            if what == Many::Set {
                known.value = value;
                set.push(known.clone());
            }
        }
        Ok(set)
    }
}
