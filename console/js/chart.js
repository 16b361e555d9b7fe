/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Charts: the small one of a row, and bars with an axis.
 */

import { el, svg, table } from './dom.js';
import { DAY, formatCompact, formatDay, formatNumber } from './format.js';

const SPARK = { width: 120, height: 28, gap: 1 };
const BARS = { height: 220, left: 44, right: 4, top: 10, bottom: 24 };


/* two paths, whatever the number of days: there are many rows */

export function sparkline(passed, refused, now) {
    const { width, height, gap } = SPARK;
    const most = Math.max(1, ...passed.map((n, i) => n + refused[i]));
    const step = width / passed.length;
    const paths = ['', '', ''];

    passed.forEach((n, i) => {
        const x = (i * step).toFixed(1);
        const w = (step - gap).toFixed(1);
        const low = bar(n, most, height);
        const high = bar(refused[i], most, height);

        if (n + refused[i] === 0) {
            paths[2] += `M${x} ${height - 1}h${w}v1h-${w}z`;
        }

        if (low) {
            paths[0] += `M${x} ${(height - low).toFixed(1)}h${w}`
                        + `V${height}h-${w}z`;
        }

        if (high) {
            paths[1] += `M${x} ${Math.max(0, height - low - high).toFixed(1)}`
                        + `h${w}v${high.toFixed(1)}h-${w}z`;
        }
    });

    return svg('svg', { class: 'spark', viewBox: `0 0 ${width} ${height}`,
                        width, height, role: 'img',
                        preserveAspectRatio: 'none',
                        'aria-label': describe(passed, refused, now) },
               svg('path', { class: 'zero', d: paths[2] }),
               svg('path', { class: 'passed', d: paths[0] }),
               svg('path', { class: 'refused', d: paths[1] }));
}


function bar(n, most, height) {
    return n === 0 ? 0 : Math.max(1.5, n / most * height);
}


function describe(passed, refused, now) {
    const sum = passed.reduce((a, n) => a + n, 0);
    const refusals = refused.reduce((a, n) => a + n, 0);
    const most = Math.max(...passed);

    if (sum + refusals === 0) {
        return `No requests in ${passed.length} days`;
    }

    const day = now - (passed.length - 1 - passed.indexOf(most)) * DAY;

    return `${passed.length} days: ${formatNumber(sum)} passed, `
           + `${formatNumber(refusals)} refused; most on ${formatDay(day)}: `
           + formatNumber(most);
}


/*
 * Bars of points [{ label, long, values: [N, ...] }], one value for each of
 * series [{ name, kind }], stacked.  The numbers are below as a table.
 */

export function barChart({ caption, unit, points, series }) {
    const readout = el('p', { class: 'readout' });
    const plot = el('div', { class: 'plot', 'aria-hidden': 'true' });

    const show = (i) => {
        readout.replaceChildren(...describePoint(points, series, i));
    };

    show(-1);

    /* text has to keep its shape, so the drawing knows its width */
    new ResizeObserver(([{ contentRect }]) => {
        if (contentRect.width > 0) {
            plot.replaceChildren(drawBars(contentRect.width, points, series,
                                          show));
        }
    }).observe(plot);

    return el('figure', { class: 'chart', 'aria-label': caption },
              el('div', { class: 'chart-head' }, readout, legend(series)),
              plot,
              el('details', null, el('summary', null, 'Show as a table'),
                 table(caption,
                       [unit, ...series.map(({ name }) => ({ number: name }))],
                       points.toReversed().map(({ long, values }) =>
                           [long, ...values.map(formatNumber)]))));
}


function legend(series) {
    return el('ul', { class: 'legend' },
              series.map(({ name, kind }) => el('li', null,
                  el('span', { class: `swatch ${kind}` }), name)));
}


/* the sums if none is pointed at */

function describePoint(points, series, i) {
    const values = i >= 0 ? points[i].values
                   : series.map((_, s) => points.reduce(
                         (sum, point) => sum + point.values[s], 0));

    return [
        el('span', { class: 'when' }, i >= 0 ? points[i].long : 'Total'),
        ...series.map(({ name, kind }, s) => el('span', null,
            el('b', { class: `value ${kind}` }, formatNumber(values[s])),
            ` ${name.toLowerCase()}`)),
    ];
}


function drawBars(width, points, series, show) {
    const { height, left, right, top, bottom } = BARS;
    const most = Math.max(...points.map(({ values }) => sum(values)));
    const ticks = scale(most);
    const max = ticks[ticks.length - 1];
    const step = (width - left - right) / points.length;
    const y = (n) => height - bottom - n / max * (height - top - bottom);

    return svg('svg', { width, height, viewBox: `0 0 ${width} ${height}`,
                        onpointerleave: () => show(-1) },
               ticks.map((n) => [
                   svg('line', { class: 'grid', x1: left, x2: width - right,
                                 y1: y(n), y2: y(n) }),
                   svg('text', { class: 'tick', x: left - 8, y: y(n) + 4,
                                 'text-anchor': 'end' }, formatCompact(n)),
               ]),
               points.map((point, i) => column(point, series, {
                   x: left + i * step, step, y, height, top,
                   point: () => show(i),
               })),
               labels(points, left, step, height));
}


function column({ values }, series, { x, step, y, height, top, point }) {
    const gap = Math.min(6, step * 0.24);
    let below = 0;

    return svg('g', { class: 'column', onpointerenter: point },
               svg('rect', { class: 'hit', x, y: top, width: step,
                             height: height - top - BARS.bottom }),
               values.map((n, s) => {
                   const from = y(below);
                   const to = y(below += n);

                   return n > 0 && svg('rect', {
                       class: series[s].kind,
                       x: x + gap / 2, width: Math.max(1, step - gap),
                       y: Math.min(to, from - 1),
                       height: Math.max(1, from - to), rx: 1 });
               }));
}


/* as many as there is room for, the last one among them */

function labels(points, left, step, height) {
    const every = Math.ceil(64 / step);

    return points.map(({ label }, i) => (points.length - 1 - i) % every === 0
        && svg('text', { class: 'tick', x: left + (i + 0.5) * step,
                         y: height - 6,
                         'text-anchor': i === points.length - 1
                                        && step < 40 ? 'end' : 'middle' },
               label));
}


/* three or four steps of 1, 2 or 5 times a power of ten */

function scale(most) {
    const rough = Math.max(most, 4) / 4;
    const power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].find((n) => n * power >= rough) * power;
    const ticks = [];

    for (let n = 0; n < Math.max(most, 1) + step; n += step) {
        ticks.push(n);
    }

    return ticks;
}


function sum(values) {
    return values.reduce((total, n) => total + n, 0);
}
