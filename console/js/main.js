/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Signing in, the head of the page, and which page is shown.
 */

import * as api from './api.js';
import { auditPage } from './audit.js';
import { el, errorBox, icon, iconButton } from './dom.js';
import { gatewayPage } from './gateway.js';
import { keyPage } from './key.js';
import { keysPage } from './keys.js';
import * as store from './store.js';

const PAGES = [
    { pattern: /^\/keys$/, tab: 'keys', title: 'API keys', show: keysPage },
    { pattern: /^\/keys\/(\w+)$/, tab: 'keys', title: 'API key',
      show: keyPage },
    { pattern: /^\/audit$/, tab: 'audit', title: 'Changes', show: auditPage },
    { pattern: /^\/gateway$/, tab: 'gateway', title: 'Gateway',
      show: gatewayPage },
];

const TABS = [['keys', 'Keys'], ['audit', 'Changes'], ['gateway', 'Gateway']];
const THEMES = ['system', 'light', 'dark'];

const main = document.getElementById('main');
const top = document.getElementById('top');

let leave = null;


function start() {
    /* while signing in, the form tells */
    api.onTokenRefused((error) => leave && signOut(error));

    addEventListener('hashchange', show);
    addEventListener('online', offline);
    addEventListener('offline', offline);
    document.addEventListener('keydown', shortcut);

    if (api.hasToken()) {
        show();

    } else {
        signInPage();
    }

    offline();
}


/* pages */

function show() {
    if (!api.hasToken()) {
        return;
    }

    const [path, query] = location.hash.slice(1).split(/\?(.*)/s);
    const page = PAGES.find(({ pattern }) => pattern.test(path));

    if (!page) {
        location.replace('#/keys');
        return;
    }

    leave?.();
    header(page.tab);
    document.title = `${page.title} – rbgv_auth`;
    leave = page.show(main, new URLSearchParams(query ?? ''),
                      ...page.pattern.exec(path).slice(1)) ?? (() => {});
    main.focus({ preventScroll: true });
    scrollTo(0, 0);
}


function header(current) {
    top.replaceChildren(
        el('a', { class: 'brand', href: '#/keys', 'aria-label': 'rbgv_auth' },
           el('img', { src: 'icon.svg', alt: '', width: 28, height: 28 }),
           el('span', null, 'rbgv_auth')),
        el('nav', { 'aria-label': 'Main' }, TABS.map(([tab, label]) =>
            el('a', { href: `#/${tab}`,
                      'aria-current': tab === current && 'page' }, label))),
        el('p', { id: 'offline', class: 'notice bad', role: 'status',
                  hidden: navigator.onLine }, icon('alert'), 'Offline'),
        el('div', { class: 'actions' }, themeButton(),
           iconButton('signout', 'Sign out', { onclick: () => signOut() })));
}


function offline() {
    const note = document.getElementById('offline');

    if (note) {
        note.hidden = navigator.onLine;
    }
}


/* signing in and out */

function signInPage(error) {
    const problem = el('div', null, error && errorBox(error));
    const field = el('input', { id: 'token', type: 'password', required: true,
                                autocomplete: 'off', spellcheck: 'false' });
    const submit = el('button', { type: 'submit', class: 'button primary' },
                      'Sign in');

    const send = async (event) => {
        event.preventDefault();

        if (field.value.trim() === '') {
            field.focus();
            return;
        }

        problem.replaceChildren();
        submit.disabled = true;

        try {
            await api.signIn(field.value.trim());
            show();

        } catch (refusal) {
            problem.replaceChildren(errorBox(refusal));
            field.select();

        } finally {
            submit.disabled = false;
        }
    };

    top.replaceChildren(el('span', { class: 'brand' }), themeButton());
    document.title = 'Sign in – rbgv_auth';
    main.replaceChildren(el('div', { class: 'sign-in card' },
        el('img', { src: 'icon.svg', alt: '', width: 48, height: 48 }),
        el('h1', null, 'API keys'),
        el('p', { class: 'sub' }, 'Sign in with an admin token. It stays in '
                                  + 'this tab and is gone when that is '
                                  + 'closed.'),
        el('form', { onsubmit: send }, problem,
           el('div', { class: 'field' },
              el('label', { for: 'token' }, 'Admin token'), field),
           submit)));
    field.focus();
}


function signOut(error) {
    leave?.();
    leave = null;
    document.querySelectorAll('dialog').forEach((dialog) => dialog.close());
    api.signOut();
    store.clear();
    signInPage(error);
}


/* the theme */

function themeButton() {
    const root = document.documentElement;
    const current = root.dataset.theme ?? 'system';

    return iconButton(current, `Theme: ${current}`, {
        class: 'button icon-only theme',
        onclick: ({ currentTarget }) => {
            const next = THEMES[(THEMES.indexOf(current) + 1) % THEMES.length];

            setTheme(next);

            const fresh = themeButton();

            currentTarget.replaceWith(fresh);
            fresh.focus();
        },
    });
}


function setTheme(theme) {
    const { dataset } = document.documentElement;

    if (theme === 'system') {
        delete dataset.theme;

    } else {
        dataset.theme = theme;
    }

    try {
        localStorage.setItem('rbgv-theme', theme);
    } catch {
        // storage is forbidden: until the page is left
    }
}


/* keys */

function shortcut(event) {
    const typing = event.target.closest('input, select, textarea, dialog');

    if (event.key === '/' && !typing && !event.ctrlKey && !event.metaKey) {
        const search = document.getElementById('search');

        if (search) {
            event.preventDefault();
            search.focus();
            search.select();
        }
    }
}


start();
