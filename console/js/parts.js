/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Pieces of a key that more than one page shows.
 */

import * as api from './api.js';
import { badge, el, svg } from './dom.js';
import {
    formatCompact, formatDateTime, formatLimit, formatNumber, formatPercent,
    formatRelative,
} from './format.js';
import { FINDINGS } from './model.js';

/* those of a new store have a colour of their own */
const ENVIRONMENTS = new Set(['prod', 'staging', 'dev']);


export function tile(label, value, ...fine) {
    return el('div', { class: 'tile' }, el('p', { class: 'label' }, label),
              el('p', { class: 'value' }, value),
              el('div', { class: 'fine' }, fine));
}


export function environmentBadge(name) {
    return badge(name || 'none', `env ${ENVIRONMENTS.has(name) ? name : ''}`);
}


export function statusBadge(status) {
    return badge(status, `status ${status}`);
}


export function findingBadges(key) {
    return FINDINGS.filter(({ id }) => key.findings.has(id))
        .map(({ label, about, severity }) =>
            el('span', { class: `badge finding ${severity}`, title: about },
               label));
}


/* relative, the exact moment when pointed at */

export function moment(ms, none = 'never') {
    if (!ms) {
        return el('span', { class: 'faint' }, none);
    }

    return el('time', { datetime: new Date(ms).toISOString(),
                        title: formatDateTime(ms) },
              formatRelative(ms, api.now()));
}


export function limitList(limits, none) {
    if (limits.length === 0) {
        return el('span', { class: 'faint' }, none);
    }

    return el('ul', { class: 'limits' },
              limits.map(([policy, limit]) => el('li', { title: limit },
                  policy !== 'default' && el('span', { class: 'policy' },
                                             `${policy} `),
                  formatLimit(limit))));
}


export function creditBar(key, format = formatCompact) {
    if (key.credits === null) {
        return el('span', { class: 'faint' }, '—');
    }

    const left = Math.max(0, key.creditsLeft);
    const part = key.credits > 0 ? left / key.credits : 0;

    return el('span', { class: 'credits',
                        title: `${formatNumber(left)} of `
                               + `${formatNumber(key.credits)} left, `
                               + formatPercent(part) },
              el('span', null, format(left),
                 el('span', { class: 'faint' }, ` / ${format(key.credits)}`)),
              gauge(part, part < 0.1 ? 'bad' : 'good'));
}


export function gauge(part, kind) {
    return svg('svg', { class: `gauge ${kind}`, viewBox: '0 0 100 4',
                        preserveAspectRatio: 'none', 'aria-hidden': 'true' },
               svg('rect', { class: 'all', width: 100, height: 4 }),
               svg('rect', { class: 'part', height: 4,
                             width: 100 * Math.min(1, Math.max(0, part)) }));
}
