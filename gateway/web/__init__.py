"""What people see: the frame around every page, the pages about orders, stores and settings, and the API's frame."""
