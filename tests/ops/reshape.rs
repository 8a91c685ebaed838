use rowscan::gpu::{Caps, Gpu};
use rowscan::ops::add::add;
use rowscan::ops::reshape::reshape;
use rowscan::ops::scale::scale;
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{each_tier, leaf, run};

/// The reshaped tensor and its original share memory, and both collect gradients. Adding to the gradient of one must
/// not change that of the other.
#[test]
fn reshape_moves_gradients_through() {
    each_tier(|g| {
        let (x, dy) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, -1.0, 2.0, -2.0, 0.5, 0.0]);
        let (y, grads) = run(g, &[leaf(g, &[2, 3], &x)], &dy, |r, v| {
            let flat = reshape(r, &v[0], &[6])?;
            let tripled = scale(r, &flat, 3.0)?;
            let four = add(r, &flat, &tripled)?;
            let doubled = scale(r, &v[0], 2.0)?;
            let back = reshape(r, &four, &[2, 3])?;
            add(r, &back, &doubled)
        });
        assert_eq!(y, x.map(|x| 6.0 * x));
        assert_eq!(grads[0], dy.map(|dy| 6.0 * dy));
    });
}

#[test]
fn reshape_keeps_the_number_of_elements() {
    let g = Gpu::dry(Caps::portable());
    let x = Var::leaf(Tensor::input("x", &[2, 3]));
    assert!(reshape(&mut Recorder::new(&g), &x, &[5]).unwrap_err().to_string().contains("6 elements"));
    assert_eq!(reshape(&mut Recorder::new(&g), &Var::constant(x.data.clone()), &[6]).unwrap().id(), 0);
}
