/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * A key of the table: what the API tells, in types that sort fast, and what
 * is worth attention about it.  Nothing here knows of the page.
 */

import { DAY } from './format.js';

const EXPIRES_SOON = 14 * DAY;
const INACTIVE = 7 * DAY;
const UNFINISHED = 7 * DAY;

/* of a spike, as "rbgvctl review" has them; docs/rbgvctl.md tells why */
const SPIKE_SCORE = 4;
const SPIKE_TIMES = 3;
const SPIKE_HIGH = 2;
const SPIKE_EXCESS = 100;
const BASE_MIN = 7;
const BASE_MAX = 28;
const MAD_SCALE = 1.4826;


/*
 * The filters, in the order of their buttons.  A disabled key needs nothing,
 * an expired one only an owner; "always" are shown when no key has it.
 */

export const FINDINGS = [
    { id: 'spiking', label: 'Spiking', severity: 'high', always: true,
      about: 'Traffic of today or yesterday is far above the usual',
      test: (key, now) => spike(key, now) !== null },

    { id: 'overdue', label: 'Rotation overdue', severity: 'high', always: true,
      about: 'The newest secret is older than its environment allows',
      live: true, test: (key) => key.overdue },

    { id: 'expiring', label: 'Expiring', severity: 'high', always: true,
      about: 'Expires within 14 days',
      live: true,
      test: (key, now) => key.expires !== 0
                          && key.expires - now <= EXPIRES_SOON },

    { id: 'credits', label: 'Credits low', severity: 'high',
      about: 'Less than a tenth of the credits is left',
      live: true,
      test: (key) => key.credits !== null
                     && (key.creditsLeft <= 0
                         || key.creditsLeft < key.credits / 10) },

    { id: 'inactive', label: 'Inactive', severity: 'medium', always: true,
      about: 'Was used, but not within 7 days',
      live: true,
      test: (key, now) => key.used !== 0 && now - key.used > INACTIVE },

    { id: 'unused', label: 'Never used', severity: 'medium', always: true,
      about: 'No request since it was created',
      live: true, test: (key) => key.used === 0 },

    { id: 'rotating', label: 'Rotating', severity: 'info',
      about: 'A rotation is under way',
      live: true, test: (key) => key.rotating !== 0 },

    { id: 'unfinished', label: 'Rotation unfinished', severity: 'medium',
      about: 'A rotation began more than 7 days ago',
      live: true,
      test: (key, now) => key.rotating !== 0
                          && now - key.rotating > UNFINISHED },

    { id: 'ownerless', label: 'No owner', severity: 'medium',
      about: 'Nobody to ask',
      test: (key) => key.owner === '' },
];


export class Key {
    constructor(item, now) {
        this.item = item;

        this.id = item.key_fingerprint;
        this.name = item.client_id ?? '';
        this.environment = item.environment ?? '';
        this.owner = item.owner ?? '';
        this.note = item.note ?? '';
        this.status = item.status;

        this.created = time(item.created_at);
        this.expires = time(item.expires_at);
        this.used = time(item.last_used_at);
        this.rotating = time(item.rotation_started_at);
        this.due = time(item.rotation_due_at);
        this.overdue = item.rotation_overdue;

        this.days = item.requests_days;
        this.refusedDays = item.refused_days;
        this.today = item.requests_today;
        this.volume = item.requests_30d;
        this.refused = item.refused_30d;

        this.credits = item.credits;
        this.creditsLeft = item.credits_left;
        this.limits = Object.entries(item.limits)
            .sort(([a], [b]) => (b === 'default') - (a === 'default'));

        this.text = [this.name, this.id, this.owner, this.note].join('\n')
                    .toLowerCase();
        this.findings = findings(this, now);
    }
}


function findings(key, now) {
    const found = new Set();

    if (key.status === 'disabled') {
        return found;
    }

    for (const finding of FINDINGS) {
        if (!(finding.live && key.status === 'expired')
            && finding.test(key, now))
        {
            found.add(finding.id);
        }
    }

    return found;
}


/* of today or the day before, or null: { ago, requests, usual } */

export function spike(key, now) {
    const total = key.days.map((n, i) => n + key.refusedDays[i]);

    return spikeOf(total, 0, (now % DAY) / DAY) ?? spikeOf(total, 1, 1);
}


/* "part" is how much of the day has passed */

function spikeOf(total, ago, part) {
    const day = total.length - 1 - ago;
    const requests = total[day];

    if (requests < SPIKE_EXCESS) {
        return null;
    }

    /* the first day of a key is no whole one */
    const first = total.findIndex((n) => n !== 0);
    const base = total.slice(Math.max(first + 1, day - BASE_MAX), day);

    if (base.length < BASE_MIN) {
        return null;
    }

    base.sort((a, b) => a - b);

    const usual = median(base);
    const expected = part * usual;
    const high = base[base.length - 1 - Math.floor(base.length / 10)];

    if (requests < expected * SPIKE_TIMES
        || requests < expected + SPIKE_EXCESS
        || requests <= high * SPIKE_HIGH)
    {
        return null;
    }

    const spread = base.map((n) => Math.abs(n - usual)).sort((a, b) => a - b);
    const deviation = part * MAD_SCALE * median(spread);
    const score = (requests - expected)
                  / Math.sqrt(deviation ** 2 + Math.max(expected, 1));

    return score >= SPIKE_SCORE ? { ago, requests, usual } : null;
}


function median(sorted) {
    const n = sorted.length;

    return (sorted[(n - 1) >> 1] + sorted[n >> 1]) / 2;
}


export function time(text) {
    return text ? Date.parse(text) : 0;
}


/* the columns that can be sorted by; numbers begin with the highest */

export const ORDERS = {
    name:        { value: (key) => key.name },
    environment: { value: (key) => key.environment },
    owner:       { value: (key) => key.owner.toLowerCase() },
    status:      { value: (key) => key.status },
    volume:      { value: (key) => key.volume, descending: true },
    today:       { value: (key) => key.today, descending: true },
    used:        { value: (key) => key.used, descending: true },
    limits:      { value: (key) => limitRate(key), descending: true },
    credits:     { value: (key) => key.creditsLeft ?? -1, descending: true },
    created:     { value: (key) => key.created, descending: true },
};


/* requests a second of the first limit; "600r/1m" */

function limitRate(key) {
    const [, quota, length, unit] =
        /^(\d+)r\/(\d+)([smhd])/.exec(key.limits[0]?.[1] ?? '') ?? [];

    return quota ? quota / length / { s: 1, m: 60, h: 3600, d: 86400 }[unit]
                 : -1;
}


export function sortKeys(keys, order, descending) {
    const { value } = ORDERS[order];
    const sign = descending ? -1 : 1;

    return keys.map((key) => ({ key, value: value(key) }))
        .sort((a, b) => (a.value > b.value) - (a.value < b.value) === 0
                        ? a.key.created - b.key.created
                        : sign * (a.value > b.value ? 1 : -1))
        .map(({ key }) => key);
}


/*
 * Keys that match all of { text, environment, status, finding }, and how many
 * there were for each choice of a filter while the others stay as they are.
 */

export function filterKeys(keys, filter) {
    const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
    const counts = { environment: count(), status: count(), finding: count() };
    const matches = [];

    for (const key of keys) {
        if (!words.every((word) => key.text.includes(word))) {
            continue;
        }

        const environment = !filter.environment
                            || key.environment === filter.environment;
        const status = !filter.status || key.status === filter.status;
        const finding = !filter.finding || key.findings.has(filter.finding);

        if (status && finding) {
            counts.environment.add(key.environment);
        }

        if (environment && finding) {
            counts.status.add(key.status);
        }

        if (environment && status) {
            counts.finding.add('', ...key.findings);
        }

        if (environment && status && finding) {
            matches.push(key);
        }
    }

    return { matches, counts };
}


function count() {
    const counts = new Map();

    return {
        add: (...names) => {
            for (const name of names) {
                counts.set(name, (counts.get(name) ?? 0) + 1);
            }
        },
        of: (name) => counts.get(name) ?? 0,
        names: () => [...counts.keys()].sort(),
    };
}
