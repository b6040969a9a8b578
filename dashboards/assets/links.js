// Links between the dashboard's pages: followed within the page that is open. With a modifier key, or with another
// button, they are plain links.
export default function ({ setTriggerValue }) {
  const follow = (event) => {
    if (event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) {
      return;
    }
    const link = event.target instanceof Element ? event.target.closest("a[data-page]") : null;
    if (link) {
      event.preventDefault();
      setTriggerValue("go", link.getAttribute("href"));
    }
  };
  document.addEventListener("click", follow);
  document.documentElement.dataset.links = "followed"; // until then, and between two runs of a page, they are plain ones
  return () => {
    document.removeEventListener("click", follow);
    delete document.documentElement.dataset.links;
  };
}
