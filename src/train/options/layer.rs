//! Layers of arguments over settings.

/// Arguments of the settings `S`: one layer's values for some of them. A field that is `None` leaves the layer below.
pub trait Layer<S> {
    /// Writes every field that is given into `settings`.
    fn over(&self, settings: &mut S);
}

/// The settings `base` under `layers`: a later layer overrides an earlier one.
pub fn overlay<S, L: Layer<S>>(mut base: S, layers: &[L]) -> S {
    layers.iter().for_each(|layer| layer.over(&mut base));
    base
}

impl<S, L: Layer<S>> Layer<S> for &L {
    fn over(&self, settings: &mut S) {
        (*self).over(settings);
    }
}

/// The value of one option in the uppermost layer that gives it; `None` if no layer does.
pub fn uppermost<'a, L, T: ?Sized>(layers: &'a [L], option: impl Fn(&'a L) -> Option<&'a T>) -> Option<&'a T> {
    layers.iter().rev().find_map(option)
}

/// A type of argument for settings of type `S`. Most arguments have the type of their setting, or `T` for an
/// `Option<T>`; the types below are for settings that people write in another form.
pub trait Argument<S>: Sized {
    /// Writes the argument into the setting.
    fn set(self, setting: &mut S);
    /// The argument that gives the setting its value; `None` if no argument does.
    fn of(setting: &S) -> Option<Self>;
}

impl<T: Clone> Argument<T> for T {
    fn set(self, setting: &mut T) {
        *setting = self;
    }

    fn of(setting: &T) -> Option<Self> {
        Some(setting.clone())
    }
}

impl<T: Clone> Argument<Option<T>> for T {
    fn set(self, setting: &mut Option<T>) {
        *setting = Some(self);
    }

    fn of(setting: &Option<T>) -> Option<Self> {
        setting.clone()
    }
}
