// The list of runs needs no script but for its switch of colours.

byId("switch").append(themeSwitch());
