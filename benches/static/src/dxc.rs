//! DirectX's shader compiler, DXC, through the COM interfaces of its library (dxcapi.h), on any system.

use std::ffi::{OsStr, c_void};
use std::ptr::{null, null_mut};

use libloading::{Library, Symbol};

/// A character of `LPCWSTR`: `wchar_t`.
#[cfg(windows)]
type Wide = u16;
#[cfg(not(windows))]
type Wide = u32;

/// An identifier of a class or interface. Its byte order in memory is that of the machine.
#[repr(C)]
struct Guid(u32, u16, u16, [u8; 8]);

static COMPILER: Guid = Guid(0x73e2_2d93, 0xe6ce, 0x47f3, [0xb5, 0xbf, 0xf0, 0x66, 0x4f, 0x39, 0xc1, 0xb0]);
static COMPILER3: Guid = Guid(0x228b_4687, 0x5a6a, 0x4730, [0x90, 0x0c, 0x97, 0x02, 0xb2, 0x20, 0x3f, 0x54]);
static RESULT: Guid = Guid(0x5834_6cda, 0xdde7, 0x4497, [0x94, 0x61, 0x6f, 0x87, 0xaf, 0x5e, 0x06, 0x59]);

/// `DxcBuffer`: source text in UTF-8.
#[repr(C)]
struct Buffer {
    text: *const u8,
    bytes: usize,
    code_page: u32,
}

const UTF8: u32 = 65_001;
/// Methods of `IUnknown` in a table of methods. Outside of Windows two destructors follow them.
const UNKNOWN: usize = if cfg!(windows) { 3 } else { 5 };

/// A reference to a COM object.
struct Object(*mut c_void);

impl Object {
    /// The address of method `at`.
    ///
    /// # Safety
    /// The object has this method.
    unsafe fn method(&self, at: usize) -> *const c_void {
        // SAFETY: a COM object begins with a pointer to its table of methods.
        unsafe { *(*self.0.cast::<*const *const c_void>()).add(at) }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: `Release` is the third method of every object, and this reference is not used again.
        unsafe {
            let release: extern "system" fn(*mut c_void) -> u32 = std::mem::transmute(self.method(2));
            release(self.0);
        }
    }
}

/// The compiler. Each thread needs its own.
pub struct Dxc {
    compiler: Object,
    _library: Library,
}

impl Dxc {
    /// Opens the library `libdxcompiler.so`, `dxcompiler.dll` or `libdxcompiler.dylib` at this path.
    ///
    /// # Errors
    /// If it cannot be loaded or is another library.
    pub fn open(path: &OsStr) -> Result<Self, String> {
        type Create = extern "system" fn(*const Guid, *const Guid, *mut *mut c_void) -> i32;
        let failed = |e: String| format!("{}: {e}", path.display());
        // SAFETY: loading DXC runs its initializers only, and the function has the type that dxcapi.h gives.
        unsafe {
            let library = Library::new(path).map_err(|e| failed(e.to_string()))?;
            let create: Symbol<'_, Create> = library.get(b"DxcCreateInstance\0").map_err(|e| failed(e.to_string()))?;
            let mut compiler = null_mut();
            match create(&raw const COMPILER, &raw const COMPILER3, &raw mut compiler) {
                0 => Ok(Self { compiler: Object(compiler), _library: library }),
                code => Err(failed(format!("no IDxcCompiler3, error {code:#x}"))),
            }
        }
    }

    /// Compiles HLSL to DXIL with the options that wgpu passes. Returns the bytes of the result.
    ///
    /// # Errors
    /// The compiler's message.
    pub fn compile(&self, entry: &str, source: &str) -> Result<usize, String> {
        type Compile = extern "system" fn(
            *mut c_void,
            *const Buffer,
            *const *const Wide,
            u32,
            *const c_void,
            *const Guid,
            *mut *mut c_void,
        ) -> i32;
        type Number = extern "system" fn(*mut c_void, *mut i32) -> i32;
        type Get = extern "system" fn(*mut c_void, *mut *mut c_void) -> i32;
        let mut options = vec!["-E", entry, "-T", "cs_6_5", "-HV", "2018", "-no-warnings"];
        if source.contains("float16_t") || source.contains("half") {
            options.push("-enable-16bit-types");
        }
        let options: Vec<Vec<Wide>> = options.iter().map(|option| wide(option)).collect();
        let options: Vec<*const Wide> = options.iter().map(|option| option.as_ptr()).collect();
        let buffer = Buffer { text: source.as_ptr(), bytes: source.len(), code_page: UTF8 };
        // SAFETY: the numbers and types of the methods are those of dxcapi.h; text and options outlive the call.
        unsafe {
            let compile: Compile = std::mem::transmute(self.compiler.method(UNKNOWN));
            let mut result = null_mut();
            let count = options.len() as u32;
            let code = compile(
                self.compiler.0,
                &raw const buffer,
                options.as_ptr(),
                count,
                null(),
                &raw const RESULT,
                &raw mut result,
            );
            if code != 0 {
                return Err(format!("IDxcCompiler3::Compile: error {code:#x}"));
            }
            let result = Object(result);
            let status: Number = std::mem::transmute(result.method(UNKNOWN));
            let mut failed = 0;
            status(result.0, &raw mut failed);
            let get: Get = std::mem::transmute(result.method(UNKNOWN + if failed == 0 { 1 } else { 2 }));
            let mut blob = null_mut();
            if get(result.0, &raw mut blob) != 0 || blob.is_null() {
                return Err("DXC gives neither a result nor a message".into());
            }
            let blob = Object(blob);
            let at: extern "system" fn(*mut c_void) -> *const u8 = std::mem::transmute(blob.method(UNKNOWN));
            let size: extern "system" fn(*mut c_void) -> usize = std::mem::transmute(blob.method(UNKNOWN + 1));
            let bytes = std::slice::from_raw_parts(at(blob.0), size(blob.0));
            if failed == 0 { Ok(bytes.len()) } else { Err(String::from_utf8_lossy(bytes).into_owned()) }
        }
    }
}

/// Text that ends with a zero.
fn wide(text: &str) -> Vec<Wide> {
    #[cfg(windows)]
    let characters = text.encode_utf16();
    #[cfg(not(windows))]
    let characters = text.chars().map(u32::from);
    characters.chain([0]).collect()
}
