/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * The page of one key.  It looks for news while it is visible; a card is
 * drawn again only if what it shows has changed.
 */

import * as api from './api.js';
import { auditTable } from './audit.js';
import { barChart } from './chart.js';
import {
    deleteKey, disableKey, editKey, enableKey, endRotation, rotateKey,
} from './dialogs.js';
import {
    badge, button, copyButton, el, emptyBox, errorBox, icon, table,
} from './dom.js';
import {
    formatClock, formatDate, formatDateTime, formatDay, formatDayShort,
    formatNumber, formatRelative, plural,
} from './format.js';
import { spike, time } from './model.js';
import {
    creditBar, environmentBadge, findingBadges, gauge, limitList, moment,
    statusBadge, tile,
} from './parts.js';
import * as store from './store.js';

const INTERVAL = 5e3;
const AUDITED = 1000;

const CAUSES = [
    { name: 'Passed', kind: 'passed' },
    { name: 'Limited', kind: 'limited' },
    { name: 'No credits', kind: 'no-credits' },
    { name: 'No such job', kind: 'no-job' },
];

const SECRETS = [
    { name: 'Old secret', kind: 'old' },
    { name: 'New secret', kind: 'passed' },
];


export function keyPage(main, query, id) {
    const page = new KeyPage(main, id);

    return () => page.close();
}


class KeyPage {
    constructor(main, id) {
        this.id = id;
        this.main = main;
        this.cards = null;
        this.days = 30;
        this.closed = false;

        this.unsubscribe = store.subscribe(() => this.render());
        this.timer = setInterval(() => document.hidden || this.refresh(),
                                 INTERVAL);

        main.replaceChildren(back(), el('div', { class: 'skeleton' },
                                        el('div'), el('div'), el('div')));
        this.refresh();
    }

    close() {
        this.closed = true;
        clearInterval(this.timer);
        this.unsubscribe();
    }

    async refresh() {
        const error = await store.reload(this.id);

        if (this.closed) {
            return;
        }

        if (error?.status === 404) {
            this.close();
            this.main.replaceChildren(back(),
                emptyBox('No such key', `There is no key ${this.id}: it was `
                                        + 'deleted, or never was.'));

        } else if (error && this.cards === null) {
            this.main.replaceChildren(back(),
                errorBox(error, () => this.refresh()));

        } else if (error) {
            this.problem.replaceChildren(errorBox(error));

        } else {
            this.problem.replaceChildren();
        }
    }

    /* the list of keys knows less of it: days tell */

    render() {
        const key = store.find(this.id);

        if (!key?.item.days) {
            return;
        }

        if (this.cards === null) {
            this.build();
            this.loadAudit();
        }

        for (const card of this.cards) {
            const shown = JSON.stringify(card.of(key));

            if (card.shown !== shown) {
                if (card.shown && card.audited) {
                    this.loadAudit();
                }

                card.shown = shown;
                card.node.replaceChildren(...card.draw(key).flat()
                                             .filter(Boolean));
            }
        }
    }

    build() {
        const card = (draw, of, attributes, more) => ({
            draw: draw.bind(this), of, ...more,
            node: el('section', { class: 'card padded', ...attributes }),
        });

        const head = card(this.head, ({ item, findings }) => [
            identity(item), item.status, item.rotation_started_at,
            [...findings]], { class: 'page-head key-head' },
            { audited: true });
        const facts = card(this.facts, ({ item }) => [
            item.last_used_at, item.requests_today, item.requests_7d,
            item.requests_30d, item.refused_30d], { class: 'tiles' });
        const traffic = card(this.traffic, ({ item }) => [item.days, this.days],
                             { 'aria-label': 'Requests per day' });
        const rotation = card(this.rotation, ({ item }) => [
            item.rotation, item.rotated_at, item.rotation_due_at],
            { 'aria-label': 'Rotation' });
        const secrets = card(this.secrets, ({ item }) => [
            item.secrets, item.rotation?.secrets, item.last_used_at],
            { 'aria-label': 'Secrets' });
        const about = card(this.about, ({ item }) => [
            identity(item), item.limits, item.credits, item.credits_spent,
            item.expires_at], { 'aria-label': 'About the key' });

        this.cards = [head, facts, traffic, rotation, secrets, about];
        this.problem = el('div');
        this.audit = el('section', { class: 'card padded',
                                     'aria-label': 'Changes' });

        this.main.replaceChildren(back(), head.node, this.problem, facts.node,
            el('div', { class: 'columns' },
               el('div', null, traffic.node, rotation.node, secrets.node),
               el('div', null, about.node, this.audit)));
    }

    head(key) {
        const act = (label, name, handler, kind) => button(label, {
            icon: name, class: `button ${kind ?? ''}`,
            onclick: () => handler(store.find(this.id)),
        });

        return [
            el('div', null,
               el('h1', null, key.name || '(no name)', ' ',
                  el('span', { class: 'badges' }, statusBadge(key.status),
                     environmentBadge(key.environment), findingBadges(key))),
               el('p', { class: 'id' }, el('code', null, key.id),
                  copyButton(key.id, `Copy the id ${key.id}`))),
            el('div', { class: 'actions' },
               act('Change', null, editKey),
               !key.rotating && act('Rotate', 'rotate', rotateKey),
               key.status === 'disabled' ? act('Enable', null, enableKey)
                                         : act('Disable', null, disableKey),
               act('Delete', null, deleteKey, 'quiet-danger')),
        ];
    }

    facts(key) {
        const { item, used } = key;
        const all = item.requests_30d + item.refused_30d;
        const unusual = spike(key, api.now());

        return [
            tile('Today', formatNumber(item.requests_today),
                 unusual ? `${formatNumber(Math.round(unusual.usual))} on a `
                           + 'usual day' : 'since midnight UTC'),
            tile('7 days', formatNumber(item.requests_7d), 'let pass'),
            tile('30 days', formatNumber(item.requests_30d), 'let pass'),
            tile('Refused', formatNumber(item.refused_30d),
                 all ? `of ${formatNumber(all)} in 30 days` : 'in 30 days'),
            tile('Last used', moment(used), used ? formatDateTime(used)
                                                 : 'no request yet'),
        ];
    }

    traffic({ item }) {
        const days = item.days.slice(-this.days);
        const range = (n) => el('button', {
            type: 'button', class: 'segment',
            'aria-pressed': String(n === this.days),
            onclick: () => {
                this.days = n;
                this.render();
                this.main.querySelector('.segment[aria-pressed="true"]')
                    .focus();
            },
        }, `${n} days`);

        return [
            el('div', { class: 'card-head' },
               el('h2', null, 'Requests per day'),
               el('div', { class: 'segments', role: 'group',
                           'aria-label': 'Days shown' },
                  [7, 14, 30].map(range))),
            barChart({
                caption: `Requests of ${days.length} days, in UTC`,
                unit: 'Day',
                series: CAUSES,
                points: days.map(({ date, requests, refused }) => ({
                    label: formatDayShort(Date.parse(date)),
                    long: formatDay(Date.parse(date)),
                    values: [requests, refused.limited, refused.credits,
                             refused.job],
                })),
            }),
        ];
    }

    rotation(key) {
        const { rotation } = key.item;

        return [
            el('div', { class: 'card-head' }, el('h2', null, 'Rotation'),
               rotation && verdict(rotation)),
            ...rotation ? this.underWay(key, rotation) : idle(key),
        ];
    }

    underWay(key, rotation) {
        const end = (label, action, kind) => button(label, {
            class: `button ${kind}`,
            onclick: () => endRotation(key, rotation, action),
        });

        return [
            progress(rotation),
            barChart({
                caption: 'Uses of both secrets by the hour',
                unit: 'Hour',
                series: SECRETS,
                points: rotation.hours.map((hour) => ({
                    label: formatClock(Date.parse(hour.hour)),
                    long: formatDateTime(Date.parse(hour.hour)),
                    values: [hour.old_uses, hour.new_uses],
                })),
            }),
            el('div', { class: 'buttons' },
               end('Cancel rotation', 'cancel', ''),
               rotation.verdict === 'safe'
               ? end('Finish rotation', 'finish', 'primary')
               : end('Finish anyway', 'finish', 'quiet-danger')),
        ];
    }

    secrets({ item, used }) {
        const known = new Map((item.rotation?.secrets ?? [])
            .map((secret) => [secret.digest, secret]));

        const line = (secret) => {
            const uses = known.get(secret.digest);

            return [
                [el('code', null, secret.digest), uses && ' ',
                 uses && badge(uses.old ? 'old' : 'new')],
                statusBadge(secret.status),
                moment(time(secret.created_at)),
                uses ? moment(time(uses.last_used_at))
                : item.secrets.length === 1 ? moment(used) : '—',
                formatNumber(secret.uses),
            ];
        };

        return [
            el('h2', null, 'Secrets'),
            el('p', { class: 'fine' }, 'Digests. The secrets themselves are '
                                       + 'stored nowhere.'),
            table('Digests of secrets',
                  ['Digest', 'Status', 'Created', 'Last used',
                   { number: 'Uses' }], item.secrets.map(line)),
        ];
    }

    about(key) {
        const fact = (name, ...value) =>
            [el('dt', null, name), el('dd', null, value)];
        const none = (text) => el('span', { class: 'faint' }, text);

        return [
            el('h2', null, 'About'),
            el('dl', { class: 'facts' },
               fact('Owner', key.owner || none('none')),
               fact('Note', key.note || none('none')),
               fact('Limits', limitList(key.limits,
                                        'those of the location')),
               fact('Credits', key.credits === null ? none('not counted')
                               : creditBar(key, formatNumber)),
               fact('Created', moment(key.created), ' ',
                    none(formatDate(key.created))),
               fact('Expires', moment(key.expires), ' ',
                    key.expires !== 0 && none(formatDate(key.expires)))),
        ];
    }

    /* after each change of the key */

    async loadAudit() {
        const title = el('h2', null, 'Changes');

        try {
            const { items } = await api.get('audit', { limit: AUDITED });

            this.audit.replaceChildren(title, auditTable(
                items.filter((item) => item.key_fingerprint === this.id),
                { ofOneKey: true }));

        } catch (error) {
            this.audit.replaceChildren(title,
                errorBox(error, () => this.loadAudit()));
        }
    }
}


function identity({ client_id: name, environment, owner, note }) {
    return [name, environment, owner, note];
}


function back() {
    return el('a', { class: 'back', href: '#/keys' }, icon('back'),
              'All keys');
}


function verdict({ verdict: found, old_last_used_at: used }) {
    const ago = used && formatRelative(time(used), api.now());
    const [text, kind] = {
        safe:  ['safe to finish', 'good'],
        used:  [`still used, last ${ago}`, 'bad'],
        watch: ['not used since, too early to tell', 'medium'],
    }[found];

    return badge(text, `verdict ${kind}`);
}


/* made, waited for, ended */

function progress({ rotation_started_at: started, verdict: found,
                    safe_at: safe, secrets }) {
    const fresh = secrets.find(({ old }) => !old);
    const step = (state, title, text) =>
        el('li', { class: state, 'aria-current': state === 'now' && 'step' },
           el('span', { class: 'dot' }, state === 'done' && icon('check')),
           el('div', null, el('b', null, title), el('p', null, text)));

    return el('ol', { class: 'steps' },
        step('done', 'New secret made', moment(time(started))),
        step(fresh?.last_used_at ? 'done' : 'now', 'New secret in use',
             fresh?.last_used_at ? plural(fresh.uses, 'use') : 'not yet'),
        step(found === 'safe' ? 'done' : fresh?.last_used_at ? 'now' : '',
             'Old secret quiet',
             found === 'safe' ? 'for long enough'
             : safe ? ['safe ', moment(time(safe)), ' if nobody uses it']
             : 'not yet'),
        step(found === 'safe' ? 'now' : '', 'Finish', 'ends the old secret'));
}


function idle(key) {
    const newest = Math.max(...key.item.secrets.map((secret) =>
        time(secret.created_at)), 0);
    const rotated = time(key.item.rotated_at);
    const span = key.due - newest;

    return [
        el('p', null, 'The newest secret was made ', moment(newest),
           rotated ? ['; the last rotation was finished ', moment(rotated)]
                   : '', '.'),
        key.due !== 0 && gauge((api.now() - newest) / span,
                               key.overdue ? 'bad' : 'good'),
        el('p', { class: 'fine' },
           key.due === 0 ? `No rotation is asked for in ${key.environment}.`
           : [key.overdue ? 'It was due ' : 'The next one is due ',
              moment(key.due), `, ${formatDate(key.due)}.`]),
    ];
}
