"""`pycompss.runtime.management`."""
