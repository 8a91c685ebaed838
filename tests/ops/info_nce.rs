use rowscan::cpu::info_nce as oracle;
use rowscan::cpu::info_nce::Dims;
use rowscan::gpu::{Caps, Gpu};
use rowscan::ops::info_nce::{enqueue, info_nce};
use rowscan::ops::step::StepState;
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, at_once, close, each_tier, leaf, run, wide};

#[test]
fn info_nce_matches_cpu() {
    let mut cases = vec![(1, 1, 1), (4, 4096, 128), (3, 33_000, 5), (32_771, 2, 3)];
    let mut random = Random::new(6);
    cases.extend((0..8).map(|_| {
        let n = random.below(3, 1 << 16);
        (1 + n[0] as usize % 40, 1 + n[1] as usize % 700, 1 + n[2] as usize % 150)
    }));
    each_tier(|g| {
        for &(b, k, d) in &cases {
            let mut random = Random::new((b * k * d) as u64);
            let unit = 1.0 / (d as f32).sqrt(); // vectors of a length near 1
            let mut draw = |n: usize| random.normal(n).iter().map(|x| x * unit).collect::<Vec<f32>>();
            let (q, keys, queue, dloss) = (draw(b * d), draw(b * d), draw(k * d), draw(b));
            let on = |shape: &[usize], v: &[f32]| Tensor::from_slice(g, shape, v).expect("on the device");
            let (keys_on, queue_on) = (on(&[b, d], &keys), on(&[k, d], &queue));
            let (loss, grads) =
                run(g, &[leaf(g, &[b, d], &q)], &dloss, |r, v| info_nce(r, &v[0], &keys_on, &queue_on, 0.2));
            let dim = Dims { b, k, d };
            let (q, keys, queue, dloss) = (wide(&q), wide(&keys), wide(&queue), wide(&dloss));
            let name = |what| format!("{what} ({b}, {k}, {d})");
            let (want, dq) =
                (oracle::forward(dim, &q, &keys, &queue, 0.2), oracle::backward(dim, &q, &keys, &queue, 0.2, &dloss));
            // loss: logits of up to 15, each a dot product of d numbers; a tree sum of k exps; log
            close(&name("loss"), &loss, &want, Tol { rel: 4e-6, abs: 2e-5 / b as f64 });
            // dq: softmax weights, each off by about 2e-5 of itself, times keys below 3 and dloss/(0.2·B)
            close(&name("dq"), &grads[0], &dq, Tol { rel: 2e-5, abs: 2e-5 / b as f64 });
        }
    });
}

#[test]
fn the_queue_turns_with_the_steps() {
    each_tier(|g| {
        for (b, k, d) in [(1, 1, 1), (3, 12, 7), (64, 1024, 128)] {
            let dim = Dims { b, k, d };
            let mut want = vec![0.5; k * d];
            let queue = Tensor::from_slice(g, &[k, d], &vec![0.5; k * d]).unwrap();
            let state = StepState::tensor();
            for step in [1, 2, 3, 4, 5, 6, 4_000_000_001u32] {
                let keys = Random::new(u64::from(step)).normal(b * d);
                StepState::new(step, 1.0, (0.9, 0.95), 7).write(g, &state).unwrap();
                at_once(g, |r| enqueue(r, &state, &Tensor::from_slice(g, &[b, d], &keys)?, &queue));
                want = oracle::enqueue(dim, &want, &wide(&keys), step as usize);
                close(&format!("queue ({b}, {k}, {d})"), &queue.to_vec(g).unwrap(), &want, Tol::EXACT);
            }
        }
    });
}

#[test]
fn the_queue_holds_whole_batches() {
    let g = Gpu::dry(Caps::portable());
    let tensor = |shape: &[usize]| Tensor::input("given", shape);
    let r = &mut Recorder::new(&g);
    let error = enqueue(r, &StepState::tensor(), &tensor(&[3, 2]), &tensor(&[8, 2])).unwrap_err().to_string();
    assert!(error.contains("rows of the queue: got 8, expected a multiple of the 3 keys"), "{error}");
    let q = Var::leaf(tensor(&[3, 2]));
    let mut new = |keys: &Tensor, t: f32| info_nce(r, &q, keys, &tensor(&[9, 2]), t);
    assert!(new(&tensor(&[4, 2]), 0.2).is_err() && new(&tensor(&[3, 2]), 0.0).is_err());
    assert!(new(&tensor(&[3, 2]), 0.2).is_ok());
}
