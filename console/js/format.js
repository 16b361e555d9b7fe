/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Numbers, dates and times, in the reader's way of writing English.
 */

export const MINUTE = 60e3;
const HOUR = 3600e3;
export const DAY = 86400e3;

const locale = navigator.languages.find((name) => /^en\b/.test(name)) ?? 'en';

const number = new Intl.NumberFormat(locale);
const compact = new Intl.NumberFormat(locale, { notation: 'compact',
                                                maximumFractionDigits: 1 });
const percent = new Intl.NumberFormat(locale, { style: 'percent',
                                                maximumFractionDigits: 1 });
const relative = new Intl.RelativeTimeFormat(locale, { numeric: 'auto' });

const date = new Intl.DateTimeFormat(locale, { dateStyle: 'medium',
                                               timeZone: 'UTC' });
const dateTime = new Intl.DateTimeFormat(locale, { dateStyle: 'medium',
                                                   timeStyle: 'medium' });
const weekday = new Intl.DateTimeFormat(locale, { weekday: 'short',
                                                  day: 'numeric',
                                                  month: 'short',
                                                  timeZone: 'UTC' });
const dayMonth = new Intl.DateTimeFormat(locale, { day: 'numeric',
                                                   month: 'short',
                                                   timeZone: 'UTC' });
const clock = new Intl.DateTimeFormat(locale, { timeStyle: 'short' });

const UNITS = [
    ['year', 365 * DAY],
    ['month', 30 * DAY],
    ['day', DAY],
    ['hour', HOUR],
    ['minute', MINUTE],
];


export const formatNumber = (n) => number.format(n);
export const formatCompact = (n) => compact.format(n);
export const formatPercent = (n) => percent.format(n);

/* of milliseconds; days are those of UTC, as they are counted */
export const formatDate = (ms) => date.format(ms);
export const formatDateTime = (ms) => dateTime.format(ms);
export const formatDay = (ms) => weekday.format(ms);
export const formatDayShort = (ms) => dayMonth.format(ms);
export const formatClock = (ms) => clock.format(ms);


export function formatRelative(ms, now) {
    const difference = ms - now;

    for (const [unit, length] of UNITS) {
        if (Math.abs(difference) >= length) {
            return relative.format(Math.trunc(difference / length), unit);
        }
    }

    return relative.format(0, 'second');
}


/* "90 days" */

export function formatDuration(ms) {
    const [unit, length] = UNITS.slice(2).find(([, size]) => ms >= size)
                           ?? ['second', 1000];
    const n = Math.floor(ms / length);

    return `${number.format(n)} ${unit}${n === 1 ? '' : 's'}`;
}


export function plural(n, one, many = `${one}s`) {
    return `${number.format(n)} ${n === 1 ? one : many}`;
}


/* "600r/1m" as "600 / min"; the windows of a limit are s, m, h or d */

export function formatLimit(limit) {
    const [, quota, length, unit] =
        /^(\d+)r\/(\d+)([smhd])$/.exec(limit) ?? [];

    if (!quota) {
        return limit;
    }

    const name = { s: 's', m: 'min', h: 'h', d: 'd' }[unit];

    return `${number.format(quota)} / ${length === '1' ? '' : `${length} `}`
           + name;
}
