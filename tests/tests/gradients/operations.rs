//! One operation at a time.

use candle_core::{Device, Tensor as Array, Var};
use plume_core::Result;
use plume_core::backend::{Activation, Backend, Mask};
use plume_core::cpu::{Candle, Matrix};
use plume_core::tensor::{After, Attend, Tensor, Turn, Weight, Window, attend, attention};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::{agree, dot, numbers, wide};

/// Checks an operation at random inputs of these shapes.
fn check<F>(name: &str, shapes: &[&[usize]], operation: F)
where
    F: Fn(&[Tensor<Candle>]) -> Result<Tensor<Candle>>,
{
    let mut rng = SmallRng::seed_from_u64(7);
    let inputs = shapes.iter().map(|shape| numbers(shape, &mut rng));
    check_at(name, &inputs.collect::<Vec<_>>(), operation);
}

/// Checks an operation at these inputs, each on its own.
fn check_at<F>(name: &str, inputs: &[Array], operation: F)
where
    F: Fn(&[Tensor<Candle>]) -> Result<Tensor<Candle>>,
{
    let mut rng = SmallRng::seed_from_u64(1);
    let vars: Vec<Var> = inputs
        .iter()
        .map(|input| Var::from_tensor(input).unwrap())
        .collect();
    let device = Candle::new();
    let run = || {
        let inputs: Vec<_> = vars
            .iter()
            .map(|var| Tensor::new(&device, var.as_tensor().clone(), var.dims()))
            .collect();
        operation(&inputs).unwrap().buffer().clone()
    };
    let output = run();
    let weights = numbers(output.dims(), &mut rng);
    let store = (&output * &weights)
        .unwrap()
        .sum_all()
        .unwrap()
        .backward()
        .unwrap();
    let weights = wide(&weights);
    for (i, var) in vars.iter().enumerate() {
        let name = format!("{name}, input {i}");
        let gradient = store.get(var).unwrap_or_else(|| panic!("{name}: none"));
        let loss = || dot(&wide(&run()), &weights);
        agree(&name, var, gradient, (0.02, 1e-3), &mut rng, loss);
    }
}

fn weight(tensor: &Tensor<Candle>) -> Weight<Candle> {
    Weight::new(
        Matrix::Dense(tensor.buffer().clone()),
        tensor.shape()[0],
        tensor.shape()[1],
    )
}

const ACTIVATIONS: [Activation; 6] = [
    Activation::Gelu,
    Activation::GeluTanh,
    Activation::QuickGelu,
    Activation::Relu,
    Activation::Silu,
    Activation::SquaredRelu,
];

#[test]
fn activations() {
    for activation in ACTIVATIONS {
        check(&format!("{activation:?}"), &[&[4, 5]], |x| {
            x[0].activate(activation)
        });
    }
}

#[test]
fn linear_with_everything_that_follows() {
    let shapes: [&[usize]; 4] = [&[3, 4], &[5, 4], &[5], &[3, 5]];
    for activation in [None, Some(Activation::Gelu), Some(Activation::QuickGelu)] {
        for residual_first in [false, true] {
            let name = format!("linear, {activation:?}, residual first: {residual_first}");
            check(&name, &shapes, |x| {
                let after = After {
                    bias: Some(&x[2]),
                    activation,
                    residual: Some(&x[3]),
                    residual_first,
                    ..After::default()
                };
                x[0].linear(&weight(&x[1]), &after)
            });
        }
        for gate in [1, 5] {
            let shapes: [&[usize]; 4] = [&[3, 4], &[5, 4], &[3, 5], &[gate]];
            let name = format!("linear, {activation:?}, gate of {gate}");
            check(&name, &shapes, |x| {
                let after = After {
                    activation,
                    residual: Some(&x[2]),
                    gate: Some(&x[3]),
                    ..After::default()
                };
                x[0].linear(&weight(&x[1]), &after)
            });
        }
        check(&format!("linear, {activation:?}"), &shapes[..2], |x| {
            let after = After {
                activation,
                ..After::default()
            };
            x[0].linear(&weight(&x[1]), &after)
        });
    }
    // The weight is the identity, so that nothing comes near the corner.
    let mut rng = SmallRng::seed_from_u64(3);
    let identity = Array::eye(3, candle_core::DType::F32, &Device::Cpu).unwrap();
    let small = (numbers(&[3], &mut rng) * 0.1).unwrap();
    let inputs = [numbers(&[4, 3], &mut rng), identity, small];
    check_at("linear, Relu", &inputs, |x| {
        let after = After {
            bias: Some(&x[2]),
            activation: Some(Activation::Relu),
            ..After::default()
        };
        x[0].linear(&weight(&x[1]), &after)
    });
}

#[test]
fn norms_and_sums() {
    let shapes: [&[usize]; 3] = [&[3, 9], &[9], &[9]];
    check("layer_norm", &shapes, |x| {
        x[0].layer_norm(&x[1], &x[2], 1e-5)
    });
    check("layer_norm, large eps", &shapes, |x| {
        x[0].layer_norm(&x[1], &x[2], 0.5)
    });
    check("l2_normalize", &[&[3, 5]], |x| x[0].l2_normalize());
    check("add", &[&[3, 2, 4], &[2, 4]], |x| x[0].add(&x[1]));
}

#[test]
fn attention_under_each_mask() {
    // Two sequences, two heads of three columns.
    for (mask, queries, keys) in [
        (Mask::None, 4, 4),
        (Mask::None, 2, 5),
        (Mask::Causal { offset: 0 }, 4, 4),
        (Mask::Causal { offset: 2 }, 3, 5),
    ] {
        let (q, kv) = ([2, queries, 6], [2, keys, 6]);
        check(&format!("attention, {mask:?}"), &[&q, &kv, &kv], |x| {
            let band = |i: usize| x[i].band(0, 6);
            attention(&band(0)?, &band(1)?, &band(2)?, 2, mask)
        });
    }
    check("attention out of one product", &[&[2, 3, 18]], |x| {
        let band = |i: usize| x[0].band(6 * i, 6);
        attention(&band(0)?, &band(1)?, &band(2)?, 2, Mask::None)
    });
}

/// Padding, ALiBi and pictures: a query that sees nothing has no gradient.
#[test]
fn attention_by_rules() {
    let cases = [
        (Mask::Causal { offset: 1 }, vec![0, 2], Some(8)),
        (
            Mask::Media {
                per_image: 2,
                all_previous: false,
            },
            vec![0, 1, 2, 1, 2, 2],
            None,
        ),
        (
            Mask::Media {
                per_image: 2,
                all_previous: true,
            },
            vec![0, 1, 2, 1, 2, 2],
            None,
        ),
    ];
    for (mask, numbers, alibi) in cases {
        let rule = Candle::new().upload_ids(&numbers).unwrap();
        let (q, kv) = ([2, 3, 6], [2, 4, 6]);
        check(&format!("attention, {mask:?}"), &[&q, &kv, &kv], |x| {
            let band = |i: usize| x[i].band(0, 6);
            let how = Attend {
                rule: Some(&rule),
                alibi,
                ..Attend::new(2, mask, 4)
            };
            attend(&band(0)?, &band(1)?, &band(2)?, &how)
        });
    }
}

#[test]
fn attention_of_turned_queries() {
    let turn = Turn {
        start: 1,
        step: 1,
        interleaved: false,
    };
    let mut rng = SmallRng::seed_from_u64(3);
    let table = Tensor::new(&Candle::new(), numbers(&[4, 2], &mut rng), &[4, 2]);
    let shape: &[usize] = &[2, 3, 6];
    check("attention, turned", &[shape; 3], |x| {
        let band = |i: usize| x[i].band(0, 6);
        let how = Attend {
            turn: Some((&table, turn)),
            ..Attend::new(2, Mask::Causal { offset: 0 }, 3)
        };
        attend(&band(0)?, &band(1)?, &band(2)?, &how)
    });
}

#[test]
fn the_operations_of_language_models() {
    check("rms_norm", &[&[3, 9], &[9]], |x| x[0].rms_norm(&x[1], 1e-6));
    check("rms_norm, large eps", &[&[3, 9], &[9]], |x| {
        x[0].rms_norm(&x[1], 0.5)
    });
    check("gated_add by a number", &[&[3, 4], &[3, 4], &[1]], |x| {
        x[0].gated_add(&x[1], &x[2])
    });
    check("gated_add by column", &[&[3, 4], &[3, 4], &[4]], |x| {
        x[0].gated_add(&x[1], &x[2])
    });
    for activation in [Activation::Silu, Activation::Gelu] {
        check(&format!("glu, {activation:?}"), &[&[3, 8]], |x| {
            x[0].glu(activation)
        });
    }
    let angles: Vec<f32> = (0..6 * 4).map(|i| (i as f32 * 0.7).sin()).collect();
    let table = Tensor::upload(&Candle::new(), &angles, &[6, 4]).unwrap();
    for interleaved in [false, true] {
        let turn = Turn {
            start: 2,
            step: 1,
            interleaved,
        };
        let name = format!("rotary, interleaved: {interleaved}");
        check(&name, &[&[2, 3, 20]], |x| {
            x[0].band(4, 12)?.rotary(&table, 2, turn)
        });
    }
}

#[test]
fn windows() {
    for (kernel, stride, padding) in [(2, 2, 0), (3, 1, 1), (3, 2, 1), (2, 3, 0)] {
        let name = format!("kernel {kernel}, stride {stride}, padding {padding}");
        let shapes: [&[usize]; 3] = [&[2, 5, 4, 3], &[4, kernel * kernel * 3], &[4]];
        check(&format!("conv2d, {name}"), &shapes, |x| {
            let after = After {
                bias: Some(&x[2]),
                activation: Some(Activation::Gelu),
                ..After::default()
            };
            x[0].conv2d(&weight(&x[1]), Window::new(kernel, stride, padding), &after)
        });
    }
    let shapes: [&[usize]; 3] = [&[2, 5, 4, 6], &[4, 27], &[4]];
    check("conv2d, two groups", &shapes, |x| {
        let after = After {
            bias: Some(&x[2]),
            ..After::default()
        };
        let window = Window {
            groups: 2,
            ..Window::same(3, 2)
        };
        x[0].conv2d(&weight(&x[1]), window, &after)
    });
    let shapes: [&[usize]; 3] = [&[2, 3, 2, 4], &[2, 4], &[2, 3, 2, 4]];
    check("excite", &shapes, |x| x[0].excite(&x[1], &x[2], 0.7));
    // Rows and columns that fill no window get no gradient.
    check("avg_pool", &[&[2, 5, 4, 3]], |x| x[0].avg_pool(2));
}

#[test]
fn moves() {
    check("concat", &[&[1, 4], &[2, 3, 4]], |x| {
        Tensor::concat(&x[0], &x[1])
    });
    check("narrow", &[&[2, 4, 3]], |x| x[0].narrow(1, 2));
    check("gather", &[&[4, 3]], |x| x[0].gather(&[2, 0, 2]));
    check("embed", &[&[5, 3]], |x| {
        weight(&x[0]).embed(x[0].backend(), &[4, 1, 4])
    });
}

#[test]
#[should_panic(expected = "the gradient says")]
fn a_gradient_that_is_wrong_in_one_element_is_noticed() {
    check("wrong", &[&[3, 9]], |x| {
        // The square of the first column, whose slope is halved here.
        let whole = x[0].buffer();
        let first = whole.narrow(1, 0, 1)?;
        let square = (&first * first.detach())?;
        let rest = whole.narrow(1, 1, 8)?.sqr()?;
        let all = Array::cat(&[square, rest], 1)?;
        Ok(Tensor::new(x[0].backend(), all, &[3, 9]))
    });
}
