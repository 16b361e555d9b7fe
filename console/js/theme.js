/*
 * Copyright (C) The ngx_http_rbgv_auth authors
 *
 * Loaded before the page is painted, so that it does not flash.
 */

'use strict';

(() => {
    let theme = null;

    try {
        theme = localStorage.getItem('rbgv-theme');
    } catch {
        // storage is forbidden: the theme of the system
    }

    if (theme === 'light' || theme === 'dark') {
        document.documentElement.dataset.theme = theme;
    }
})();
