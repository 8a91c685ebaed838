//! The macros that write settings and their arguments.

/// Writes the argument struct `$Args` of the settings `$Settings`. Each line is a field, a `--flag` of the same name,
/// and its help. An argument whose setting has another name or lies deeper says so: `no_vlb => vlb: Negated`. `;
/// arg(…)` passes attributes on to clap. `given a, forget b`: a layer that gives a and not b sets b to `None`.
macro_rules! args {
    (@place $to:ident, $flag:ident) => { $to.$flag };
    (@place $to:ident, $flag:ident => $($path:ident).+) => { $to.$($path).+ };
    (
        $(#[$outer:meta])*
        pub struct $Args:ident for $Settings:ty {
            $( $(#[$doc:meta])* $flag:ident $(=> $($path:ident).+)? : $type:ty $(; arg($($arg:tt)*))?, )*
        }
        $(given $new:ident, forget $old:ident)?
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "cli", derive(clap::Args))]
        #[serde(rename_all = "kebab-case", default)]
        pub struct $Args {
            $(
                $(#[$doc])*
                #[cfg_attr(feature = "cli", arg(long $(, $($arg)*)?))]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $flag: Option<$type>,
            )*
        }

        impl $crate::train::options::Layer<$Settings> for $Args {
            fn over(&self, settings: &mut $Settings) {
                $( if self.$new.is_some() && self.$old.is_none() { settings.$old = None; } )?
                $( if let Some(given) = &self.$flag {
                    let to = &mut $crate::train::options::args!(@place settings, $flag $(=> $($path).+)?);
                    $crate::train::options::Argument::set(given.clone(), to);
                } )*
            }
        }

        impl From<&$Settings> for $Args {
            fn from(settings: &$Settings) -> Self {
                Self { $(
                    $flag: $crate::train::options::Argument::of(
                        &$crate::train::options::args!(@place settings, $flag $(=> $($path).+)?)
                    ),
                )* }
            }
        }
    };
}

/// Writes settings with their defaults, and their argument struct as [`args!`] does: an option is one field. `T as A =
/// value` is a setting of type T whose argument has type A.
macro_rules! settings {
    (@argument $type:ty) => { $type };
    (@argument $type:ty as $argument:ty) => { $argument };
    (
        $(#[$outer:meta])*
        pub struct $Settings:ident with $Args:ident {
            $(
                $(#[$doc:meta])*
                pub $field:ident : $type:ty $(as $argument:ty)? = $default:expr
                $(; serde($($serde:tt)*))? $(; arg($($arg:tt)*))?,
            )*
        }
        $(given $new:ident, forget $old:ident)?
    ) => {
        $(#[$outer])*
        pub struct $Settings {
            $( $(#[$doc])* $(#[serde($($serde)*)])? pub $field: $type, )*
        }

        impl $Settings {
            /// The values where no layer gives any.
            pub const DEFAULT: Self = Self { $( $field: $default, )* };
        }

        impl Default for $Settings {
            fn default() -> Self {
                Self::DEFAULT
            }
        }

        $crate::train::options::args! {
            #[doc = concat!("What one layer says about [`", stringify!($Settings), "`].")]
            pub struct $Args for $Settings {
                $( $(#[$doc])* $field: $crate::train::options::settings!(@argument $type $(as $argument)?)
                    $(; arg($($arg)*))?, )*
            }
            $(given $new, forget $old)?
        }
    };
}

/// Writes the argument struct `$Args` of the settings `$Settings` from argument structs of their parts. Each line is
/// the field, the place of its settings (`self` for all of them), and its type.
macro_rules! group {
    (@place $to:ident, self) => { $to };
    (@place $to:ident, $part:ident) => { &mut $to.$part };
    (@of $from:ident, self) => { $from };
    (@of $from:ident, $part:ident) => { &$from.$part };
    (
        $(#[$outer:meta])*
        pub struct $Args:ident for $Settings:ty {
            $( $(#[$doc:meta])* $field:ident => $part:tt : $type:ty, )*
        }
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "cli", derive(clap::Args))]
        pub struct $Args {
            $(
                $(#[$doc])*
                #[cfg_attr(feature = "cli", command(flatten))]
                #[serde(flatten)]
                pub $field: $type,
            )*
        }

        impl $crate::train::options::Layer<$Settings> for $Args {
            fn over(&self, settings: &mut $Settings) {
                $( $crate::train::options::Layer::over(
                    &self.$field, $crate::train::options::group!(@place settings, $part)
                ); )*
            }
        }

        impl From<&$Settings> for $Args {
            fn from(settings: &$Settings) -> Self {
                Self { $( $field: $crate::train::options::group!(@of settings, $part).into(), )* }
            }
        }
    };
}

pub(crate) use {args, group, settings};
