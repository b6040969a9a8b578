// Links between the dashboard's pages: followed within the page that is open. With a modifier key, or with another
// button, they are plain links. Where the menu lies over the page, it is folded away once something was chosen in it.
// And the scheme that is shown: what Python draws with colours of its own is drawn anew when it is another one.
const NARROW = "(max-width: 768px)"; // as where Streamlit lays the menu over the page
const MENU = '[data-testid="stSidebar"]';

function foldAway() {
  if (matchMedia(NARROW).matches) {
    document.querySelector(`${MENU}[data-collapsed="false"] [data-testid="stSidebarCollapseButton"] button`)?.click();
  }
}

// Streamlit calls the function again when the data or the theme change, and what it returned only at the end.
let stop;

export default function ({ data, setTriggerValue }) {
  stop?.();
  const root = document.documentElement;
  if (root.dataset.run !== undefined && root.dataset.run !== data.run) {
    foldAway();
  }
  root.dataset.run = data.run;
  root.dataset.scheme = data.scheme;
  const shown = getComputedStyle(document.querySelector('[data-testid="stApp"]')).colorScheme;
  if (shown !== data.scheme) {
    setTriggerValue("scheme", shown);
  }
  const follow = (event) => {
    if (event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) {
      return;
    }
    const clicked = event.target instanceof Element ? event.target : null;
    if (clicked?.closest(`${MENU} a[href]`)) {
      foldAway();
    }
    const link = event.defaultPrevented ? null : clicked?.closest("a[data-page]");
    if (link) {
      event.preventDefault();
      setTriggerValue("go", link.getAttribute("href"));
    }
  };
  document.addEventListener("click", follow);
  root.dataset.links = "followed"; // until then, and between two runs of a page, they are plain ones
  stop = () => {
    document.removeEventListener("click", follow);
    delete root.dataset.links;
  };
  return stop;
}
