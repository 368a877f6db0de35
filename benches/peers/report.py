"""What a run found, as Markdown."""


def figure(x):
    return f"{x:.3g}" if x < 1000 else f"{x:.0f}"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def report(r, names):
    versions = ", ".join(f"{k} {v}" for k, v in r["versions"].items())
    print(f"{r['date']}, {r['cpu']} ({r['cores']} cores), {versions}, {r['rustc']}, commit {r['commit'][:12]}", end="")
    print(" with changes" if r["modified"] else "", end="")
    print(", load average {:.1f} before, {:.1f} after\n".format(*r["load"]))
    print(f"Milliseconds, {r['on']}, median (p20–p80) of {r['rounds']} interleaved rounds:\n")
    rows, notes = [], []
    for c in r["cases"]:
        rows.append([c["case"]])
        for n in names:
            side = c["sides"].get(n, {})
            if "median_ms" in side:
                rows[-1].append(f"{figure(side['median_ms'])} ({figure(side['p20_ms'])}–{figure(side['p80_ms'])})")
            else:
                rows[-1].append("**wrong**" if "wrong" in side else "–")
            notes += [f"- {c['case']}, {n}: {side[k]}" for k in ("wrong", "failed") if k in side]
            notes += [f"- {c['case']}, {n}, left out: {form}: {why}" for form, why in side.get("failed_forms", {}).items()]
        if c.get("one_after_the_other"):
            notes.append(f"- {c['case']}: one side after the other, since several do not fit the memory together")
    notes += [f"- {case}: left out, no time" for case in r["left_out"]]
    print(table(["case", *names], rows))
    if notes:
        print("\n".join(notes) + "\n")
    if "etude" in names:
        peers = names[1:]
        print("Time over Etude's, median of the rounds' own ratios (above 1: Etude is faster):\n")
        rows = []
        for c in r["cases"]:
            over = {n: c["sides"][n]["over_etude"] for n in peers if "over_etude" in c["sides"].get(n, {})}
            best = min(over, key=over.get, default=None)
            rows.append([c["case"]] + [f"{over[n]:.2f}" if n in over else "–" for n in peers])
            rows[-1].append(f"**{over[best]:.2f}** ({best})" if best else "–")
        print(table(["case", *peers, "fastest peer"], rows))
    print("Form each peer was fastest in:\n")
    peers = [n for n in names if n != "etude"]
    rows = [[c["case"]] + [(c["sides"].get(n) or {}).get("form") or "–" for n in peers] for c in r["cases"]]
    print(table(["case", *peers], rows))
    for key, unit, says in (
        ("peak_kb", 1024, "Peak memory beyond what there was, MB"),
        ("error", 1, "The largest error of the value and its gradients against float64, over the largest of their values"),
    ):
        cases = [c for c in r["cases"] if any(side.get(key) is not None for side in c["sides"].values())]
        if cases:
            print(f"{says}:\n")
            of = lambda c, n: (c["sides"].get(n) or {}).get(key)  # noqa: E731
            rows = [[c["case"]] + [f"{of(c, n) / unit:.2g}" if of(c, n) is not None else "–" for n in names] for c in cases]
            print(table(["case", *names], rows))
    if r["scaling"]:
        rows = [[x["case"], figure(x["one_ms"]), figure(x["many_ms"]), f"{x['speedup']:.2f}"] for x in r["scaling"]]
        print("Etude alone, more threads:\n")
        print(table(["case", "1 thread, ms", f"{r['scaling'][0]['threads']} threads, ms", "speed-up"], rows))
