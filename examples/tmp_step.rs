use etude::cases;
use etude::device::Cpu;
use etude::graph::Graph;
use etude::ops::conv_block::*;
fn main() {
    let threads: usize = std::env::args().nth(1).map_or(1, |s| s.parse().unwrap());
    let cpu = Cpu::<f32>::new(threads).unwrap();
    let dev: &dyn etude::device::Device = &cpu;
    for b in [64usize, 512] {
        let mut g = Graph::new();
        let nb = b / 16;
        let xb = dev.upload(&cases::normal(1, b * 1000)).unwrap();
        let x = g.bind(&xb, &[nb, 1, 1000, 16]).unwrap();
        let mut f = Features::input(&g, x, b).unwrap();
        let mut cin = 1;
        let mut keep = vec![];
        for (i, cout) in [4usize, 8, 16].into_iter().enumerate() {
            let w = dev.upload(&cases::normal(i as u64, cout * cin * 7)).unwrap();
            let ga = dev.upload(&vec![1.0f32; cout]).unwrap();
            let be = dev.upload(&vec![0.0f32; cout]).unwrap();
            let rm = dev.upload(&vec![0.0f32; cout]).unwrap();
            let rv = dev.upload(&vec![1.0f32; cout]).unwrap();
            let l = ConvBlock {
                weight: g.leaf(&w, None, &[cout, cin, 7]).unwrap(),
                gamma: g.leaf(&ga, None, &[cout]).unwrap(),
                beta: g.leaf(&be, None, &[cout]).unwrap(),
                running_mean: g.bind(&rm, &[cout]).unwrap(),
                running_var: g.bind(&rv, &[cout]).unwrap(),
                stride: 3,
                eps: 1e-5,
                momentum: 0.1,
            };
            f = conv_block(&mut g, f, &l, Mode::Train).unwrap();
            keep.extend([l.weight, l.gamma, l.beta]);
            cin = cout;
        }
        let e = mean_over_time(&mut g, f, None).unwrap();
        let ub = dev.upload(&cases::normal(5, b * 16)).unwrap();
        let u = g.bind(&ub, &[b, 16]).unwrap();
        g.backward_from(e, u).unwrap();
        let k: Vec<_> = keep.iter().map(|&v| g.grad(v).unwrap()).collect();
        let mut s = g.compile(dev, &k).unwrap();
        for _ in 0..20 {
            s.run().unwrap();
        }
        let mut best = f64::MAX;
        let mut all = vec![];
        for _ in 0..100 {
            let t = std::time::Instant::now();
            s.run().unwrap();
            let e = t.elapsed().as_secs_f64();
            best = best.min(e);
            all.push(e);
        }
        all.sort_by(f64::total_cmp);
        let c = s.cost();
        println!(
            "B={b} best {:.3} ms median {:.3} ms, {:.1} GFLOP/s, {} launches",
            best * 1e3,
            all[50] * 1e3,
            c.flops as f64 / all[50] / 1e9,
            s.launches()
        );
        let mut tot = vec![(0.0, ""); s.launches()];
        for _ in 0..50 {
            for (i, (k, c, t)) in s.profile().unwrap().into_iter().enumerate() {
                tot[i].0 += t / 50.0;
                tot[i].1 = k.name;
                let _ = c;
            }
        }
        let p = s.profile().unwrap();
        for (i, (t, n)) in tot.iter().enumerate() {
            println!("   {n:24} {:8.1} us  {:6.1} GFLOP/s", t * 1e6, p[i].1.flops as f64 / t / 1e9);
        }
    }
}
